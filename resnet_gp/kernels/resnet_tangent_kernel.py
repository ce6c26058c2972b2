"""The GPyTorch kernel of the infinitely wide ResNet trained by gradient flow."""

from __future__ import annotations

from typing import Any, get_args

from resnet_gp.activations import LeakyReLU
from resnet_gp.flow.covariance import check_options
from resnet_gp.flow.depth import Layers
from resnet_gp.kernels.resnet_kernel import ResNetKernel


class ResNetTangentKernel(ResNetKernel):
    r"""Neural tangent kernel of the ResNet whose covariance is ``ResNetLimitKernel``.

    In the lazy regime the infinitely wide network, trained by gradient flow on the squared loss,
    predicts the posterior mean of a Gaussian process with this kernel (Jacot, Gabriel & Hongler
    2018).
    In the parametrisation that trains standard normal weights, for the (leaky) ReLU family,

    .. math::
        \Theta(a, b) &= \sqrt{q_0(a, a)\, q_0(b, b)}\; e^{w (1 + \alpha^2) / 2}
            \Big[ c_T + \int_0^T \frac{f(c_s)}{(1 - \alpha)^2} \frac{F(c_T)}{F(c_s)} ds
            + c_0 \frac{F(c_T)}{F(c_0)} \Big] \\
        f(c) &= c (1 + \alpha^2) / 2 + (1 - \alpha)^2 F(c)

    are the parts of the readout, the residual blocks and the input layer, with the notation of
    ``ResNetLimitKernel``. A bias of the input layer counts as one more input, and is trained with
    the input layer.

    The kernel has a kink where inputs point in the same direction: sample paths are continuous, not
    differentiable. There, the gradient in an input is its radial part.

    Args:
        layers: the trained layers. "all"; "blocks", the residual blocks alone; "readout", which
            gives ``ResNetLimitKernel``.

    All other arguments are those of ``ResNetLimitKernel``; ``variance="unit"`` and
    ``contrast=True`` need ``layers="readout"``.

    Raises:
        ValueError: as ``ResNetLimitKernel``, or unknown layers.
        RuntimeError: second derivatives, unless ``layers="readout"``.

    Example:
        >>> kernel = ResNetTangentKernel(depth=20, input_bias=True)
        >>> kernel(torch.randn(5, 3)).to_dense().shape
        torch.Size([5, 5])
    """

    def __init__(
        self,
        activation: str | LeakyReLU = "relu",
        depth: int | None = None,
        *,
        layers: Layers = "all",
        **arguments: Any,
    ) -> None:
        if layers not in get_args(Layers):
            raise ValueError(f"layers must be one of {', '.join(get_args(Layers))}; got {layers!r}")
        super().__init__(activation, depth, **arguments)
        if not self.is_homogeneous:
            raise ValueError(
                "activation of a tangent kernel must be of the (leaky) ReLU family, no block_bias"
            )
        check_options(self.variance, self.contrast, self.depth, layers)
        self.layers = layers
