"""Attributes of a fitted regressor: what a fit found, in the units of the user."""

from __future__ import annotations

from typing import Any

import numpy as np
from gpytorch.kernels import Kernel
from numpy.typing import NDArray

from resnet_gp.fitting.inference import Fitted
from resnet_gp.fitting.optimiser import get_raw
from resnet_gp.fitting.units import Units
from resnet_gp.kernels import ResNetSumKernel
from resnet_gp.kernels.resnet_kernel import ResNetKernel
from resnet_gp.models.nearest_posterior import NearestPosterior
from resnet_gp.models.posterior import to_array
from resnet_gp.models.regression import RegressionModel
from resnet_gp.predictive.local_scale import LocalScale
from resnet_gp.predictive.residual_law import ResidualLaw

# Attributes that only some fits have.
_SOMETIMES = (
    "draws_", "effective_draws_", "horizon_", "lengthscale_", "log_evidence_", "pareto_k_",
    "probability_", "weight_variance_",
)  # fmt: skip


class RegressorAttributes:
    """Attributes that need only a fit and its units; ``ResNetGPRegressor`` describes them."""

    _fitted: Fitted
    _units: Units
    inference_: str

    @property
    def model_(self) -> RegressionModel:
        """The fitted GPyTorch model."""
        return self._fitted.model

    @property
    def residual_law_(self) -> ResidualLaw | LocalScale | None:
        """The law of residuals, None for the Gaussian one."""
        law = self._fitted.posterior.error_law
        return None if law is None or law.is_normal else law

    @property
    def n_neighbors_(self) -> int:
        """Neighbours of a prediction."""
        posterior = self._fitted.posterior
        if not isinstance(posterior, NearestPosterior):
            raise AttributeError(
                f'n_neighbors_ exists only with inference="nearest"; this fit used '
                f'"{self.inference_}"'
            )
        return min(posterior.n_neighbors, len(posterior.rows))

    @property
    def robust_weights_(self) -> NDArray[np.float64] | None:
        """Weights of the training rows by which outliers count less, ``n_samples``."""
        weight = getattr(self._fitted.model, "robust_weight", None)
        return None if weight is None else to_array(weight)

    @property
    def ranked_features_(self) -> NDArray[np.int64]:
        """Indices of the features whose ranks are inputs too."""
        return np.asarray(self._units.ranked_columns, dtype=np.int64)

    @property
    def directions_(self) -> NDArray[np.float64] | None:
        """Directions of the inputs among standardised features and ranks."""
        return self._units.directions

    @property
    def residuals_(self) -> str:
        """What became of ``residuals``."""
        return "gaussian" if self.residual_law_ is None else "student"

    def _publish(self, fitted: Fitted) -> None:
        """Set the attributes that describe a fit."""
        for name in _SOMETIMES:
            self.__dict__.pop(name, None)  # of an earlier fit
        self._fitted, result, model = fitted, fitted.result, fitted.model
        self.__dict__.update(fitted.attributes)
        self.theta_ = get_raw(model)
        self.log_marginal_likelihood_value_ = fitted.posterior.log_marginal_likelihood()
        self.restart_values_ = result.values
        self.loss_curve_ = [-value for value in result.trace]
        self.n_iter_, self.converged_ = result.iterations, result.converged
        self.fit_interrupted_ = result.interrupted
        scale = self._units.y.scale**2
        self.outputscale_ = float(model.covar_module.outputscale.detach()) * scale
        self.noise_variance_ = float(model.likelihood.noise.detach()) * scale
        self._publish_kernel(model.covar_module.base_kernel)

    def _publish_kernel(self, kernel: Kernel) -> None:
        """Hyperparameters of our kernels, with one more axis for two components."""
        if isinstance(kernel, ResNetSumKernel):
            components: tuple[ResNetKernel, ...] = kernel.components
            shares = np.append(1.0, to_array(kernel.ratio).ravel())
            self.outputscale_ = np.multiply.outer(shares, self.outputscale_)
        elif isinstance(kernel, ResNetKernel):
            components = (kernel,)
        else:
            return
        lengthscale = self._units.x.lengthscale
        found: dict[str, list[Any]] = {
            "lengthscale_": [lengthscale(to_array(c.lengthscale)[0]) for c in components],
            "weight_variance_": [float(c.weight_variance.detach()) for c in components],
        }
        if components[0].is_homogeneous:
            found["horizon_"] = [float(c.horizon.detach()) for c in components]
        for name, values in found.items():
            setattr(self, name, values[0] if len(components) == 1 else np.array(values))
