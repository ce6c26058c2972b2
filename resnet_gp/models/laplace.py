"""Gaussian process classification with the softmax likelihood, by Laplace's approximation.

Rasmussen & Williams 2006, section 3.5. All classes have the same covariance K. With the
probabilities p_c at the mode, D_c = diag(p_c), E_c = (K + D_c^{-1})^{-1} and S = sum_c E_c, the
negative Hessian of the log-likelihood is W = diag(D_1, ..., D_C) - P P', P stacking the D_c, and

    |I + K W| = |S| prod_c |I + D_c^{1/2} K D_c^{1/2}|.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from gpytorch.kernels import Kernel
from torch import Tensor
from torch.quasirandom import SobolEngine

_MAX_NEWTON = 50
_HALVINGS = 12
_TOLERANCE = 1e-6  # nats per sample
# A probability of 0 has no curvature, and S would be singular.
_LEAST_PROBABILITY = 1e-10
_DRAWS = 256
_ENTRIES = 2**23


@dataclass(frozen=True)
class LaplaceFit:
    """The mode of the posterior and the curvature there.

    Attributes:
        log_evidence: approximate log marginal likelihood, in nats.
        weights: K^{-1} f, ``n x C``, at the mode the one-hot labels less the probabilities.
        curvatures: E_c, ``C x n x n``.
        total: Cholesky factor of S, ``n x n``.
        iterations: Newton steps.
        converged: whether the last of them gained less than 1e-6 nats per sample.
    """

    log_evidence: float
    weights: Tensor
    curvatures: Tensor
    total: Tensor
    iterations: int
    converged: bool


@torch.no_grad()
def fit_laplace(covariance: Tensor, labels: Tensor, n_classes: int) -> LaplaceFit:
    """Newton's method with halved steps where a whole one overshoots.

    Args:
        covariance: K, ``n x n``.
        labels: integers from 0 to C - 1, ``n``.
        n_classes: C. Memory is C n^2 numbers, and a step costs 2 C n^3 operations.

    Raises:
        torch.linalg.LinAlgError: a matrix is not positive definite in this precision.
    """
    truth = torch.nn.functional.one_hot(labels, n_classes).to(covariance)
    weights = torch.zeros_like(truth)
    value, converged, step = _objective(covariance, weights, truth), False, 0
    while step < _MAX_NEWTON and not converged:
        step += 1
        probabilities = torch.softmax(covariance @ weights, 1)
        curvatures, _ = _curvatures(covariance, probabilities)
        whole = _newton(covariance, weights, truth, probabilities, curvatures)
        before = value
        for halving in range(_HALVINGS):
            trial = weights + 0.5**halving * (whole - weights)
            value = _objective(covariance, trial, truth)
            if value >= before:
                weights = trial
                break
        else:
            value = before
        converged = value - before < _TOLERANCE * len(labels)
    probabilities = torch.softmax(covariance @ weights, 1)
    curvatures, log_determinant = _curvatures(covariance, probabilities)
    total = torch.linalg.cholesky(curvatures.sum(0))
    log_determinant += 2 * float(total.diagonal().log().sum())
    return LaplaceFit(
        value - 0.5 * log_determinant, weights, curvatures, total, step, bool(converged)
    )


def _objective(covariance: Tensor, weights: Tensor, truth: Tensor) -> float:
    """log p(y | f) - f' K^{-1} f / 2 (eq. 3.34 without its constants)."""
    f = covariance @ weights
    likelihood = (truth * f).sum() - torch.logsumexp(f, 1).sum()
    return float(likelihood - 0.5 * (weights * f).sum())


def _curvatures(covariance: Tensor, probabilities: Tensor) -> tuple[Tensor, float]:
    """E_c and the sum of log |I + D_c^{1/2} K D_c^{1/2}|."""
    n, n_classes = probabilities.shape
    curvatures = covariance.new_empty(n_classes, n, n)
    log_determinant = 0.0
    roots = probabilities.clamp(min=_LEAST_PROBABILITY).sqrt()
    for c, root in enumerate(roots.unbind(1)):
        inner = root[:, None] * covariance * root
        factor = torch.linalg.cholesky(inner.diagonal_scatter(inner.diagonal() + 1))
        log_determinant += 2 * float(factor.diagonal().log().sum())
        curvatures[c] = root[:, None] * torch.cholesky_inverse(factor) * root
    return curvatures, log_determinant


def _newton(
    covariance: Tensor, weights: Tensor, truth: Tensor, probabilities: Tensor, curvatures: Tensor
) -> Tensor:
    """K^{-1} f after a whole step (eqs. 3.39 to 3.43)."""
    f = covariance @ weights
    mean = (probabilities * f).sum(1, keepdim=True)
    b = probabilities * (f - mean) + truth - probabilities
    c = torch.einsum("cij,jc->ic", curvatures, covariance @ b)
    total = torch.linalg.cholesky(curvatures.sum(0))
    shared = torch.cholesky_solve(c.sum(1, keepdim=True), total)
    return b - c + (curvatures @ shared)[..., 0].mT


@dataclass(frozen=True)
class LaplaceMember:
    """The approximate posterior of the C latent functions.

    Attributes:
        kernel: any GPyTorch kernel without batch dimensions.
        x: training inputs, ``n x d``.
        factor: what the kernel is multiplied by.
        fit: the mode.
    """

    kernel: Kernel
    x: Tensor
    factor: float
    fit: LaplaceFit

    def mean(self, x: Tensor) -> Tensor:
        """``n x C`` (eq. 3.46 of each class)."""
        return self._cross(x) @ self.fit.weights

    def mean_and_variance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of each class by itself, ``n x C``."""
        mean, covariance = self.mean_and_covariance(x)
        return mean, covariance.diagonal(dim1=1, dim2=2)

    def mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """``n x C`` and, between the classes at each input, ``n x C x C`` (eq. 3.47)."""
        parts = [self._mean_and_covariance(part) for part in x.split(self._rows())]
        means, covariances = zip(*parts, strict=True)
        return torch.cat(means), torch.cat(covariances)

    @torch.no_grad()
    def probability(self, x: Tensor) -> Tensor:
        """Mean softmax of the latent functions over quasi-random draws, ``n x C``."""
        mean, covariance = self.mean_and_covariance(x)
        values, vectors = torch.linalg.eigh(covariance)
        root = vectors * values.clamp(min=0).sqrt()[:, None]
        uniform = SobolEngine(mean.shape[1], scramble=True, seed=0).draw(_DRAWS).to(mean)
        normal = torch.special.ndtri(uniform.clamp(1e-9, 1 - 1e-9))
        total = torch.zeros_like(mean)
        for draw in normal:
            total += torch.softmax(mean + root @ draw, 1)
        return total / _DRAWS

    def _rows(self) -> int:
        return max(1, _ENTRIES // self.fit.weights.numel())

    def _mean_and_covariance(self, x: Tensor) -> tuple[Tensor, Tensor]:
        cross = self._cross(x)
        prior = self.factor * self.kernel(x, diag=True)
        b = cross @ self.fit.curvatures  # C x rows x n
        own = prior - (b * cross).sum(2)
        shared = torch.linalg.solve_triangular(self.fit.total, b.mT, upper=False)
        covariance = torch.einsum("cni,dni->icd", shared, shared)
        return cross @ self.fit.weights, covariance + torch.diag_embed(own.mT)

    def _cross(self, x: Tensor) -> Tensor:
        return self.factor * self.kernel(x, self.x).to_dense()
