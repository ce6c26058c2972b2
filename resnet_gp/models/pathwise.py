"""Sample paths as functions: draws of the prior and, by Matheron's rule, of the posterior.

With the mixture of ``resnet_gp.flow.mixture``, a path of s_a s_b c_T(<u_a, u_b>) is a linear model
on random Fourier features, with standard normal g and h,

    f(x) = s(x) [ a g_0 + b <g, u> + sum_i p_i g_i cos<w_i, u> + sum_i q_i h_i sin<w_i, u> ].
"""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from gpytorch.kernels import Kernel, ScaleKernel
from gpytorch.likelihoods import FixedNoiseGaussianLikelihood, GaussianLikelihood
from gpytorch.models import ExactGP
from torch import Generator, Tensor
from torch.nn import Module
from torch.quasirandom import SobolEngine

from resnet_gp.flow.covariance import growth_factor
from resnet_gp.flow.input_layer import unit_and_scale
from resnet_gp.flow.mixture import GaussianMixture, gaussian_mixture
from resnet_gp.kernels import ResNetLimitKernel
from resnet_gp.kernels.centred_kernel import CentredKernel
from resnet_gp.models.exact import ExactRegression

NUM_FEATURES = 2048


@dataclass(frozen=True)
class CovarianceError:
    """Error of a covariance, in units of the exact standard deviations of the two points.

    Attributes:
        rms: root mean square over the pairs of reference points.
        standard_error: of ``rms``, because the reference points are a sample.
        largest: over the same pairs.
    """

    rms: float
    standard_error: float
    largest: float


class PriorPaths(Module):
    """Approximate sample paths of a GP prior, as functions of x; made by ``draw_prior``.

    The paths of one draw share their frequencies: they are independent given those.

    Attributes:
        kernel: a copy of the kernel, without gradients.
        num_dims: d, the number of columns of x.
    """

    scale_factor: Tensor
    frequencies: Tensor
    amplitudes: Tensor
    weights: Tensor

    def __init__(
        self, kernel: Kernel, num_dims: int, num_paths: int, num_features: int, generator: Generator
    ) -> None:
        super().__init__()
        self.kernel = copy.deepcopy(kernel).requires_grad_(False)
        limit, self.centre, outputscale = _unwrapped(self.kernel)
        dims = num_dims if kernel.active_dims is None else len(kernel.active_dims)
        self.num_dims = num_dims
        mixture = gaussian_mixture(limit.horizon.item(), limit.contrast)
        frequencies, cos_weights, sin_weights = _random_frequencies(
            mixture, dims + limit.input_bias, num_features // 2, generator
        )
        linear = torch.full((dims + limit.input_bias,), mixture.linear, dtype=torch.float64)
        weights = [torch.tensor([mixture.constant]).double(), linear, cos_weights, sin_weights]
        amplitudes = torch.cat(weights).sqrt()
        normal = torch.randn(
            num_paths, len(amplitudes), dtype=torch.float64, generator=generator, device="cpu"
        )
        like = limit.lengthscale
        factor = outputscale.to(like).sqrt()
        if limit.variance == "full":
            factor = factor * growth_factor(limit.weight_variance, limit.negative_slope)[0, 0]
        self.register_buffer("scale_factor", factor)
        self.register_buffer("frequencies", frequencies.to(like))
        self.register_buffer("amplitudes", amplitudes.to(like))
        self.register_buffer("weights", normal.to(like))

    @property
    def num_paths(self) -> int:
        return len(self.weights)

    @property
    def num_features(self) -> int:
        """The number of random features, without the constant and the linear ones."""
        return 2 * len(self.frequencies)

    def forward(self, x: Tensor) -> Tensor:
        """Values at x, ``batch_shape x n x d``, differentiable: ``num_paths x batch_shape x n``.

        Raises:
            TypeError: x is of another dtype than the paths.
            ValueError: x is of another shape.
        """
        values = self._features(x) @ self.weights.mT
        return values.movedim(-1, 0)

    def covariance(self, x1: Tensor, x2: Tensor | None = None) -> Tensor:
        """The exact covariance of these paths given their frequencies, ``batch_shape x n x m``."""
        features1 = self._features(x1)
        features2 = features1 if x2 is None else self._features(x2)
        return features1 @ features2.mT

    @torch.no_grad()
    def covariance_error(self, x: Tensor) -> CovarianceError:
        """Error of the covariance of these paths against the kernel at reference points."""
        return _covariance_error(self.covariance(x), self.kernel(x).to_dense())

    def _features(self, x: Tensor) -> Tensor:
        """Scaled random features, ``batch_shape x n x (1 + d + num_features)``."""
        if x.dtype != self.weights.dtype:
            raise TypeError(f"x must be of the paths' dtype {self.weights.dtype}, got {x.dtype}")
        if x.dim() < 2 or x.shape[-1] != self.num_dims:
            raise ValueError(f"x must be of shape ... x n x {self.num_dims}, got {tuple(x.shape)}")
        if self.kernel.active_dims is not None:
            x = x.index_select(-1, self.kernel.active_dims)
        limit, _, _ = _unwrapped(self.kernel)
        bias = limit.input_bias_variance if limit.input_bias else None
        x = x - self.centre if self.centre else x
        unit, scale = unit_and_scale(x, limit.lengthscale, bias, limit.variance)
        phase = unit @ self.frequencies.mT
        parts = [torch.ones_like(unit[..., :1]), unit, phase.cos(), phase.sin()]
        return (scale * self.scale_factor)[..., None] * torch.cat(parts, -1) * self.amplitudes


def draw_prior(
    kernel: Kernel,
    num_dims: int,
    num_paths: int = 1,
    *,
    num_features: int = NUM_FEATURES,
    generator: Generator | None = None,
) -> PriorPaths:
    """Draw sample paths of the zero-mean prior with the covariance of the infinite ResNet.

    The root mean square error of the covariance is at most about
    ``1.4 (1 - c_T(-1)) / sqrt(num_features)`` of the variance, and several times smaller at short
    horizons or in few dimensions; ``covariance_error`` measures that of a draw. At long horizons
    nearly all variance is that of a multiple of s(x), and 1 - c_T(-1) is small.

    Args:
        kernel: a ``ResNetLimitKernel``, or ``ScaleKernel`` and ``CentredKernel`` around one, as
            ``get_covar_module_with_resnet_prior`` makes it, without a batch shape.
        num_dims: d, the number of columns of x.
        num_paths: how many paths.
        num_features: even; powers of two serve the quasi-random frequencies best.
        generator: on the CPU; makes the draw reproducible. Torch's own by default.

    Raises:
        TypeError: another kernel.
        ValueError: a kernel with a batch shape or with d other than ``num_dims``, an invalid count,
            or a variance that overflows.
    """
    limit, _, _ = _unwrapped(kernel)
    for name, count in [("num_dims", num_dims), ("num_paths", num_paths)]:
        if count < 1:
            raise ValueError(f"{name} must be at least 1, got {count}")
    if num_features < 2 or num_features % 2:
        raise ValueError(f"num_features must be even and positive, got {num_features}")
    if kernel.active_dims is not None and int(kernel.active_dims.max()) >= num_dims:
        raise ValueError(f"num_dims must exceed the kernel's active_dims, got {num_dims}")
    used = num_dims if kernel.active_dims is None else len(kernel.active_dims)
    if limit.ard_num_dims not in (None, 1, used):
        raise ValueError(
            f"num_dims must match the kernel's {limit.ard_num_dims} lengthscales, got {num_dims}"
        )
    return PriorPaths(
        kernel, num_dims, num_paths, num_features, generator or torch.default_generator
    )


class PosteriorPaths(Module):
    """Sample paths of a GP given data, made by ``condition`` or ``draw_posterior``.

    Matheron's rule (Wilson et al. 2020, "Efficiently Sampling Functions from Gaussian Process
    Posteriors", eq. 8): f(x) + k(x, X) (K + noise)^{-1} (y - f(X) - e), with a prior path f and a
    draw e of the noise. Only the prior path is approximate; the update is exact.

    Attributes:
        prior: the prior paths.
        mean_module: the prior mean, a function of x, or None for zero.
    """

    train_x: Tensor
    noise: Tensor
    cholesky: Tensor
    weights: Tensor

    def __init__(
        self,
        prior: PriorPaths,
        train_x: Tensor,
        train_y: Tensor,
        noise: Tensor,
        mean_module: Callable[[Tensor], Tensor] | None,
        generator: Generator | None,
    ) -> None:
        super().__init__()
        self.prior = prior
        self.mean_module = mean_module
        with torch.no_grad():
            covariance = prior.kernel(train_x).to_dense()
            cholesky = torch.linalg.cholesky(covariance + noise.diag_embed())
            error = torch.randn(
                prior.num_paths, len(train_y), dtype=torch.float64, generator=generator
            )
            residual = train_y - prior(train_x) - noise.sqrt() * error.to(noise)
            if mean_module is not None:
                residual = residual - mean_module(train_x)
            weights = torch.cholesky_solve(residual.mT, cholesky)
        self.register_buffer("train_x", train_x.detach().clone())
        self.register_buffer("noise", noise)
        self.register_buffer("cholesky", cholesky)
        self.register_buffer("weights", weights)

    @property
    def num_paths(self) -> int:
        return self.prior.num_paths

    def forward(self, x: Tensor) -> Tensor:
        """Values at x, as ``PriorPaths.forward``."""
        update = self._cross(x) @ self.weights
        values = self.prior(x) + update.movedim(-1, 0)
        return values if self.mean_module is None else values + self.mean_module(x)

    @torch.no_grad()
    def covariance(self, x: Tensor) -> Tensor:
        """The exact covariance of these paths given the frequencies of the prior, ``n x n``."""
        gain = torch.cholesky_solve(self._cross(x).mT, self.cholesky).mT
        train = self.prior.covariance(self.train_x) + self.noise.diag_embed()
        half = self.prior.covariance(x, self.train_x) @ gain.mT
        return self.prior.covariance(x) - half - half.mT + gain @ train @ gain.mT

    @torch.no_grad()
    def covariance_error(self, x: Tensor) -> CovarianceError:
        """Error of the covariance of these paths against the exact posterior."""
        whitened = torch.linalg.solve_triangular(self.cholesky, self._cross(x).mT, upper=False)
        exact = self.prior.kernel(x).to_dense() - whitened.mT @ whitened
        return _covariance_error(self.covariance(x), exact)

    def _cross(self, x: Tensor) -> Tensor:
        return self.prior.kernel(x, self.train_x).to_dense()


def condition(
    prior: PriorPaths,
    train_x: Tensor,
    train_y: Tensor,
    noise: Tensor | float,
    *,
    mean_module: Callable[[Tensor], Tensor] | None = None,
    generator: Generator | None = None,
) -> PosteriorPaths:
    """Condition paths of the prior on data.

    Args:
        prior: from ``draw_prior``.
        train_x: ``n x d``.
        train_y: ``n``.
        noise: variance of the noise, a number or ``n``.
        mean_module: the mean of the prior, a function of x; zero by default.
        generator: on the CPU; makes the noise of the draw reproducible.

    Raises:
        ValueError: train_y or noise of another shape, or a negative noise.
        torch.linalg.LinAlgError: the covariance of the targets is not positive definite in this
            precision; more noise helps.
    """
    if train_y.shape != train_x.shape[:-1] or train_y.dim() != 1:
        raise ValueError(
            f"train_y must be one number for each row of train_x, got {tuple(train_y.shape)} "
            f"for {tuple(train_x.shape)}"
        )
    noise = torch.as_tensor(noise, dtype=train_y.dtype, device=train_y.device).detach()
    if noise.numel() not in (1, len(train_y)):
        raise ValueError(f"noise must be a number or one for each target, got {tuple(noise.shape)}")
    if bool((noise < 0).any()):
        raise ValueError("noise must not be negative")
    noise = noise.reshape(-1).expand(len(train_y)).clone()
    return PosteriorPaths(prior, train_x, train_y, noise, mean_module, generator)


def draw_posterior(
    model: ExactGP,
    num_paths: int = 1,
    *,
    num_features: int = NUM_FEATURES,
    generator: Generator | None = None,
) -> PosteriorPaths:
    """Draw sample paths of f from an exact GP model given its training data.

    Args:
        model: with ``mean_module``, ``covar_module`` and a Gaussian likelihood, such as
            ``ExactRegression``, of which known noises and weights of rows count as well; its
            hyperparameters are taken as they are now.
        num_paths: how many paths.
        num_features: as in ``draw_prior``.
        generator: on the CPU; makes the draw reproducible.

    Raises:
        TypeError: another kernel or another likelihood.
        ValueError: a batch of models, or one that transforms its inputs or outcomes.
        torch.linalg.LinAlgError: as in ``condition``.
    """
    if not isinstance(model.likelihood, GaussianLikelihood | FixedNoiseGaussianLikelihood):
        raise TypeError(
            f"model must have a Gaussian likelihood, got {type(model.likelihood).__name__}"
        )
    for name in ("input_transform", "outcome_transform"):
        if hasattr(model, name):
            raise ValueError(f"model must not have an {name}: its paths would be of other units")
    (train_x,), train_y = model.train_inputs, model.train_targets
    if train_x.dim() != 2 or train_y.dim() != 1:
        raise ValueError(f"model must not be a batch, got train_x of {tuple(train_x.shape)}")
    prior = draw_prior(
        model.covar_module,
        train_x.shape[-1],
        num_paths,
        num_features=num_features,
        generator=generator,
    )
    mean_module = copy.deepcopy(model.mean_module).requires_grad_(False)
    own = isinstance(model, ExactRegression)
    noise = model.row_noise().detach() if own else model.likelihood.noise
    return condition(prior, train_x, train_y, noise, mean_module=mean_module, generator=generator)


def _unwrapped(kernel: Kernel) -> tuple[ResNetLimitKernel, float, Tensor]:
    """The limit kernel inside, the centre of its inputs and its output scale; raises if none."""
    if len(getattr(kernel, "batch_shape", ())) > 0:
        raise ValueError(f"kernel must not be a batch, got batch_shape {tuple(kernel.batch_shape)}")
    centre, outputscale = 0.0, torch.ones(())
    while isinstance(kernel, ScaleKernel | CentredKernel):
        if isinstance(kernel, ScaleKernel):
            outputscale = outputscale * kernel.outputscale.detach()
        else:
            centre += kernel.centre
        kernel = kernel.base_kernel
    if not isinstance(kernel, ResNetLimitKernel):
        raise TypeError(
            "kernel must be a ResNetLimitKernel or a ScaleKernel or CentredKernel of one, "
            f"got {type(kernel).__name__}"
        )
    if not kernel.is_homogeneous or kernel.depth is not None:
        raise ValueError(
            "kernel must be at infinite depth, of the (leaky) ReLU family, without block bias"
        )
    return kernel, centre, outputscale


def _random_frequencies(
    mixture: GaussianMixture, dims: int, count: int, generator: Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Frequencies, ``count x dims``, and the weights of their cosines and sines, ``count``."""
    # Rates are drawn by their share of the variance of a path and of its gradient, half each.
    mass = mixture.even + mixture.odd + torch.finfo(torch.float64).tiny
    energy = mass * mixture.rates
    probability = (mass / mass.sum() + energy / energy.sum()) / 2
    seed = int(torch.randint(2**31, (), generator=generator))
    uniform = SobolEngine(1 + dims, scramble=True, seed=seed).draw(count, dtype=torch.float64)
    uniform = uniform.clamp_(2.0**-32, 1 - 2.0**-32)  # Sobol points may lie on the border
    rank = torch.searchsorted(probability.cumsum(0), uniform[:, 0].contiguous())
    rank = rank.clamp_(max=len(probability) - 1)
    frequencies = torch.special.ndtri(uniform[:, 1:]) * mixture.rates[rank, None].sqrt()
    share = count * probability[rank]
    return frequencies, mixture.even[rank] / share, mixture.odd[rank] / share


def _covariance_error(found: Tensor, exact: Tensor) -> CovarianceError:
    deviation = exact.diagonal().clamp(min=0).sqrt()
    units = torch.outer(deviation, deviation)
    relative = torch.where(units > 0, (found - exact) / units, 0)
    by_point = relative.square().mean(-1)
    rms = by_point.mean().sqrt().item()
    # A mean over pairs of n points varies as that of n terms, each counted twice.
    error = by_point.std().item() / math.sqrt(len(by_point)) / rms if rms > 0 else 0.0
    return CovarianceError(rms, error, relative.abs().max().item())
