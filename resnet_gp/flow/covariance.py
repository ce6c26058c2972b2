"""Covariance matrices of the limit network from its input layer: one fused, differentiable call.

For the (leaky) ReLU family without block bias (Hayou & Yang 2023, Theorems 2 and 3),

    k(a, b) = sqrt(q_0(a, a) q_0(b, b)) exp(w (1 + alpha^2) / 2) c_T(c_0),    T = w (1 - alpha)^2.
"""

from __future__ import annotations

import functools
import math
import operator
from dataclasses import dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from resnet_gp.flow.autograd import same_values, widens_half
from resnet_gp.flow.depth import DepthMap, Layers
from resnet_gp.flow.domain import DomainError
from resnet_gp.flow.input_layer import Variance, unit_and_scale
from resnet_gp.flow.unit_covariance import single_pairs, unit_covariance_sum


@widens_half
def resnet_covariance(
    x1: Tensor,
    x2: Tensor,
    weight_variance: Tensor,
    *,
    negative_slope: float = 0.0,
    lengthscale: Tensor | None = None,
    input_bias_variance: Tensor | None = None,
    depth: int | None = None,
    layers: Layers = "readout",
    variance: Variance = "full",
    contrast: bool = False,
    diag: bool = False,
) -> Tensor:
    """Covariance of the infinitely wide ResNet between two sets of inputs, or its tangent kernel.

    Args:
        x1: ``batch_shape x n x d``.
        x2: ``batch_shape x m x d``.
        weight_variance: w >= 0, ``batch_shape x 1 x 1`` or a scalar.
        negative_slope: alpha of phi(u) = max(u, 0) + alpha min(u, 0).
        lengthscale: l, ``batch_shape x 1 x d`` or broadcastable; the inputs are divided by it.
        input_bias_variance: sigma_in^2, ``batch_shape x 1 x 1`` or a scalar.
        depth: number of residual blocks; None for the limit.
        layers: which layers are trained. "readout" gives the covariance of the outputs, "all" and
            "blocks" the tangent kernel of all layers or of the residual blocks.
        variance: "full"; "no_growth", without the factor exp(w (1 + alpha^2) / 2) by which the
            variance grows with depth, at finite depth (1 + w (1 + alpha^2) / (2 L))^L; or "unit",
            k(a, b) / sqrt(k(a, a) k(b, b)), for the readout.
        contrast: replace c_T by (c_T - c_T(pi)) / (1 - c_T(pi)), for the readout of the limit. As
            T grows, all c_T approach 1; the contrast keeps them apart.
        diag: return k(x1_i, x2_i), ``batch_shape x n``, without building a matrix.

    Returns:
        ``batch_shape x n x m`` (or ``batch_shape x n``). Rows of zeros without an input bias have
        covariance 0, and gradient 0 where the kernel has a kink.

    Raises:
        ValueError: the horizon is outside the table's range, the growth factor overflows, or
            options that exclude each other.
    """
    network = one_network(
        weight_variance,
        negative_slope=negative_slope,
        lengthscale=lengthscale,
        input_bias_variance=input_bias_variance,
        depth=depth,
        layers=layers,
        variance=variance,
        contrast=contrast,
    )
    return network.covariance(x1, x2, diag)


def _one_component(x: Tensor) -> Tensor:
    return x[..., None, :, :] if x.dim() > 1 else x


@widens_half
def resnet_sum_covariance(
    x1: Tensor,
    x2: Tensor,
    weight_variance: Tensor,
    outputscale: Tensor,
    *,
    negative_slope: float = 0.0,
    lengthscale: Tensor | None = None,
    input_bias_variance: Tensor | None = None,
    depth: int | None = None,
    layers: Layers = "readout",
    variance: Variance = "full",
    contrast: bool = False,
    diag: bool = False,
) -> Tensor:
    """Covariance of a sum of C independent infinitely wide ResNets, sum_c s_c k_c.

    One pass over the matrix, in which each entry sums its components: in memory there is one
    matrix, not C. Everything else is as in ``resnet_covariance``, with a dimension of components.

    Args:
        x1: ``batch_shape x n x d``.
        x2: ``batch_shape x m x d``.
        weight_variance: w >= 0, ``batch_shape x C x 1 x 1``.
        outputscale: s_c > 0, the factor of each covariance k_c, ``batch_shape x C``.
        negative_slope: alpha of phi(u) = max(u, 0) + alpha min(u, 0).
        lengthscale: l, ``batch_shape x C x 1 x d`` or broadcastable.
        input_bias_variance: sigma_in^2, ``batch_shape x C x 1 x 1`` or a scalar.
        depth: number of residual blocks of each network; None for the limit.
        layers: which layers are trained.
        variance: of each k_c.
        contrast: of each k_c.
        diag: return the sums for the pairs (x1_i, x2_i), ``batch_shape x n``.

    Returns:
        ``batch_shape x n x m`` (or ``batch_shape x n``).

    Raises:
        ValueError: as ``resnet_covariance``, or the numbers of components differ.
    """
    networks = Networks(
        weight_variance,
        outputscale,
        negative_slope=negative_slope,
        lengthscale=lengthscale,
        input_bias_variance=input_bias_variance,
        depth=depth,
        layers=layers,
        variance=variance,
        contrast=contrast,
    )
    return networks.covariance(x1, x2, diag)


@dataclass(frozen=True, kw_only=True)
class _Options:
    """Keyword arguments of ``resnet_sum_covariance``."""

    negative_slope: float = 0.0
    lengthscale: Tensor | None = None
    input_bias_variance: Tensor | None = None
    depth: int | None = None
    layers: Layers = "readout"
    variance: Variance = "full"
    contrast: bool = False


@dataclass(frozen=True)
class Networks(_Options):
    """C independent networks at some hyperparameters, the arguments of ``resnet_sum_covariance``.

    Raises:
        ValueError: options that exclude each other, or numbers of components that differ.
    """

    weight_variance: Tensor
    outputscale: Tensor | None

    def __post_init__(self) -> None:
        check_options(self.variance, self.contrast, self.depth, self.layers)
        if self.outputscale is not None:
            self._check_components(self.outputscale)

    def _check_components(self, outputscale: Tensor) -> None:
        w, lengthscale = self.weight_variance, self.lengthscale
        count = outputscale.shape[-1] if outputscale.dim() else 0
        if w.shape[-3:] != (count, 1, 1):
            raise ValueError(
                "weight_variance must be batch_shape x C x 1 x 1 and outputscale batch_shape x C; "
                f"got {tuple(w.shape)} and {tuple(outputscale.shape)}"
            )
        if lengthscale is None or lengthscale.dim() < 3:
            return
        if lengthscale.shape[-3] not in (1, count):
            raise ValueError(
                f"lengthscale must be batch_shape x C x 1 x d with C = {count}, "
                f"got {tuple(lengthscale.shape)}"
            )

    @property
    def map(self) -> DepthMap:
        """The map of correlations from the input layer to the last, a function of the time."""
        return DepthMap(self.negative_slope, self.depth, self.layers, self.contrast)

    @property
    def time(self) -> Tensor:
        """The horizon T of the limit, else the weight variance w; ``batch_shape x C``."""
        w = self.weight_variance[..., 0, 0]
        return w * (1 - self.negative_slope) ** 2 if self.map.is_limit else w

    def factor(self) -> Tensor | None:
        """Factor of all scales, ``batch_shape x C x 1``: that of the covariance is its square.

        Half of it belongs to each side, so that the matrix of one set of inputs is symmetric.
        """
        factors = []
        if self.variance == "full":
            w = self.weight_variance
            factors.append(growth_factor(w, self.negative_slope, self.depth)[..., 0])
        if self.outputscale is not None:
            factors.append(self.outputscale.sqrt()[..., None])
        return functools.reduce(operator.mul, factors) if factors else None

    def points(self, x: Tensor, factor: Tensor | None) -> tuple[Tensor, Tensor]:
        """Unit vectors, ``batch_shape x C x n x d``, and scales, ``batch_shape x C x n``.

        Args:
            x: ``batch_shape x n x d``.
            factor: as ``factor`` returns it.
        """
        unit, scale = unit_and_scale(
            x[..., None, :, :], self.lengthscale, self.input_bias_variance, self.variance
        )
        return unit, scale if factor is None else scale * factor

    def covariance(self, x1: Tensor, x2: Tensor, diag: bool) -> Tensor:
        """See ``resnet_sum_covariance``."""
        factor = self.factor()
        unit1, scale1 = self.points(x1, factor)
        unit2, scale2 = (unit1, scale1) if same_values(x1, x2) else self.points(x2, factor)
        if diag:
            pairs = single_pairs(unit1, unit2, self.time[..., None], self.map)
            return (scale1 * scale2 * pairs).sum(-2)
        return unit_covariance_sum(unit1, unit2, scale1, scale2, self.time, self.map)


def one_network(
    weight_variance: Tensor, outputscale: Tensor | None = None, **options: Any
) -> Networks:
    """The network of ``resnet_covariance``, as a sum of one.

    Args:
        weight_variance, options: as there, without a dimension of components.
        outputscale: a factor of the covariance, ``batch_shape``; None for 1.
    """
    w = weight_variance
    for name in ("lengthscale", "input_bias_variance"):
        if options.get(name) is not None:
            options[name] = _one_component(options[name])
    return Networks(
        w[..., None, :, :] if w.dim() else w.reshape(1, 1, 1),
        None if outputscale is None else outputscale[..., None],
        **options,
    )


def check_options(variance: Variance, contrast: bool, depth: int | None, layers: Layers) -> None:
    """Check that the options of ``resnet_covariance`` go together.

    Raises:
        ValueError: names the option that is wrong.
    """
    if variance not in get_args(Variance):
        raise ValueError(
            f"variance must be one of {', '.join(get_args(Variance))}; got {variance!r}"
        )
    if variance == "unit" and layers != "readout":
        raise ValueError('variance="unit" needs layers="readout"; use variance="no_growth"')
    if contrast and (depth is not None or layers != "readout"):
        raise ValueError('contrast=True needs depth=None and layers="readout"')


def growth_factor(
    weight_variance: Tensor, negative_slope: float, depth: int | None = None
) -> Tensor:
    """exp(w (1 + alpha^2) / 4), by which depth multiplies the standard deviation.

    For L blocks, (1 + w (1 + alpha^2) / (2 L))^{L / 2}.

    Raises:
        DomainError: its square, the growth of the variance, overflows.
    """
    exponent = weight_variance * ((1 + negative_slope**2) / 2)
    if depth is not None:
        exponent = depth * torch.log1p(exponent / depth)
    largest = exponent.detach().max().item()
    if largest > math.log(torch.finfo(exponent.dtype).max):
        raise DomainError(
            f"weight_variance is so large that the variance exp({largest:.4g}) overflows "
            f'{exponent.dtype}; use variance="no_growth" with an output scale'
        )
    return torch.exp(exponent / 2)
