"""The GPyTorch kernel of the infinitely wide and deep convolutional ResNet."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import Any, Literal

import torch
from gpytorch.constraints import Interval
from gpytorch.priors import Prior
from torch import Tensor

from resnet_gp.activations import LeakyReLU
from resnet_gp.flow.convolution.covariance import conv_covariance, covariance_cost
from resnet_gp.flow.convolution.network import Cost, conv_network
from resnet_gp.kernels.network_kernel import NetworkKernel
from resnet_gp.kernels.remembered import LastMatrices


class ConvResNetLimitKernel(NetworkKernel):
    r"""Covariance of a convolutional ResNet at initialisation, of infinite width and depth.

    Its inputs are flattened images. For pixels p of image a and p' of image b, and filters of
    :math:`(2r+1)^2` pixels :math:`\delta`,

    .. math::
        q_0^{pp'}(a, b) &= \frac{1}{(2r+1)^2} \sum_\delta
            \tfrac1C \langle a_{p+\delta}, b_{p'+\delta} \rangle \;[+ \sigma_{in}^2] \\
        \frac{d}{dt} q_t^{pp'}(a, b) &= \frac{w}{(2r+1)^2} \sum_\delta
            E[\phi(u) \phi(v)]_{p+\delta,\, p'+\delta} \;[+ \sigma_b^2],

    where (u, v) is a centred Gaussian with the covariance of both pixels at time t: the limit of
    :math:`Y_l = Y_{l-1} + L^{-1/2} \mathrm{Conv}(\phi(Y_{l-1}))` in whatever order width and depth
    grow (Hayou & Yang 2023, Theorem 2, with the sums over filters of Novak et al. 2019). The kernel
    is the mean of :math:`q_1^{pp}` over pixels, or of :math:`q_1^{pp'}` over pairs of them.

    Standardise images as a whole: by one mean and one standard deviation for each image, or for all
    of them. Columns standardised one by one are no images any more; the estimators of this package
    leave the inputs of this kernel as they are.

    All is computed in fixed steps, with an error below 10^-6 of sqrt(k(a, a) k(b, b)), and an entry
    depends on its two images alone. A thousand images of 28 x 28 pixels take some forty seconds of
    one core at w = 1, and time grows like sqrt(w); with "average", with the square of the pixels.
    On the CPU the arithmetic is float64, whatever dtype images and kernel have. ``cost`` tells time
    and memory beforehand.

    The matrices of the last four calls without a gradient are kept and given out again, also by
    copies of the kernel: with fixed hyperparameters (``kernel.requires_grad_(False)``) a fit of
    noise and output scale needs one matrix.

    Args:
        image_shape: (height, width) or (channels, height, width) of the images.
        filter_size: 2r + 1, odd.
        readout: "flatten", a weight for each pixel; "average", of the mean over pixels, which does
            not see where things are ("circular" padding makes it exactly invariant to shifts).
        padding: "zero", or "circular" for filters that continue at the opposite edge.
        activation: "relu", "leaky_relu" or "abs".
        depth: L, a number of residual blocks from 1 to 1000; None for the limit.
        negative_slope: alpha of "leaky_relu"; the others ignore it.
        input_bias: give the input layer a bias of variance ``input_bias_variance``.
        block_bias: give the residual blocks biases of variance ``block_bias_variance``.
        batch_shape: shape of the batch of hyperparameters.
        active_dims: the input dimensions to use.
        weight_variance_prior, weight_variance_constraint: of ``weight_variance``, w,
            ``batch_shape x 1 x 1``.
        input_bias_variance_prior, input_bias_variance_constraint: of ``input_bias_variance``; only
            with ``input_bias=True``.
        block_bias_variance_prior, block_bias_variance_constraint: of ``block_bias_variance``; only
            with ``block_bias=True``.

    All hyperparameters start at 1, unless a constraint has an initial value. Without a constraint
    they are positive and optimised in logarithms. Differentiable once: in w at two to three times
    the cost, in w and both biases at four to six times; in images by plain torch, with all stages
    in memory.

    Raises:
        ValueError: an argument is wrong, or inputs have another size.
        DomainError: w times the activation's steepness (1 for ReLU) is above 100.

    Example:
        >>> kernel = ConvResNetLimitKernel((8, 8))
        >>> kernel(torch.randn(5, 64)).to_dense().shape
        torch.Size([5, 5])
    """

    has_lengthscale = False

    def __init__(
        self,
        image_shape: Sequence[int],
        filter_size: int = 3,
        readout: Literal["flatten", "average"] = "flatten",
        padding: Literal["zero", "circular"] = "zero",
        activation: str | LeakyReLU = "relu",
        depth: int | None = None,
        *,
        negative_slope: float = 0.01,
        input_bias: bool = False,
        block_bias: bool = False,
        batch_shape: torch.Size | None = None,
        active_dims: tuple[int, ...] | None = None,
        weight_variance_prior: Prior | None = None,
        weight_variance_constraint: Interval | None = None,
        input_bias_variance_prior: Prior | None = None,
        input_bias_variance_constraint: Interval | None = None,
        block_bias_variance_prior: Prior | None = None,
        block_bias_variance_constraint: Interval | None = None,
    ) -> None:
        super().__init__(batch_shape=batch_shape, active_dims=active_dims)
        self.network = conv_network(
            image_shape, filter_size, readout, padding, activation, negative_slope, depth
        )
        self.input_bias = input_bias
        self.block_bias = block_bias
        self._add_variances(
            (weight_variance_prior, weight_variance_constraint),
            (input_bias, input_bias_variance_prior, input_bias_variance_constraint),
            (block_bias, block_bias_variance_prior, block_bias_variance_constraint),
        )
        self._last = LastMatrices()

    def forward(
        self,
        x1: Tensor,
        x2: Tensor,
        diag: bool = False,
        last_dim_is_batch: bool = False,
        **params: Any,
    ) -> Tensor:
        self._refuse_last_dim_is_batch(last_dim_is_batch)
        w = self.weight_variance
        bias = self.input_bias_variance if self.input_bias else None
        block = self.block_bias_variance if self.block_bias else None
        seen = [x1, x2, w, *(value for value in (bias, block) if value is not None)]
        compute = functools.partial(
            conv_covariance, x1, x2, self.network, w,
            input_bias_variance=bias, block_bias_variance=block, diag=diag,
        )  # fmt: skip
        return self._last.get(seen, diag, compute)

    def cost(self, n: int, m: int | None = None) -> Cost:
        """Seconds and bytes of a matrix of n and m images, or of n with themselves.

        On this machine, with as many threads as torch uses, from a timed sample; without gradients.
        Bytes are those of the matrix: computing and keeping it takes two to three times as many.

        Raises:
            RuntimeError: numba is missing.
        """
        block = self.block_bias_variance.max() if self.block_bias else torch.zeros(())
        return covariance_cost(self.network, self.weight_variance.max(), block, n, m)
