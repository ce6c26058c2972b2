"""Positive hyperparameters of kernels: floats and tensors in, checked, with priors that pickle."""

from __future__ import annotations

import torch
from gpytorch.constraints import Interval
from gpytorch.kernels import Kernel
from gpytorch.priors import Prior
from torch import Tensor

from resnet_gp.flow.domain import DomainError
from resnet_gp.kernels.constraints import log_positive
from resnet_gp.kernels.priors import register_value_prior


class KernelWithHyperparameters(Kernel):
    """A kernel whose hyperparameter ``name`` is the transform of its parameter ``raw_name``."""

    @property
    def is_stationary(self) -> bool:
        return False

    def _refuse_last_dim_is_batch(self, last_dim_is_batch: bool) -> None:
        if last_dim_is_batch:
            raise RuntimeError(
                f"{type(self).__name__} does not accept the last_dim_is_batch argument."
            )

    def _add(
        self,
        name: str,
        shape: tuple[int, ...],
        prior: Prior | None = None,
        constraint: Interval | None = None,
    ) -> None:
        """Add a positive hyperparameter of shape ``batch_shape x shape``."""
        raw = torch.nn.Parameter(torch.zeros(*self.batch_shape, *shape))
        self.register_parameter(f"raw_{name}", raw)
        self.register_constraint(f"raw_{name}", constraint or log_positive())
        if prior is not None:
            if not isinstance(prior, Prior):
                raise TypeError(
                    f"{name}_prior must be a gpytorch Prior, got {type(prior).__name__}"
                )
            register_value_prior(self, name, prior)

    def start_at(self, name: str, value: float | Tensor) -> None:
        """Set a hyperparameter, if its constraint has no initial value and allows this one."""
        constraint = self.constraint_for_parameter_name(f"raw_{name}")
        if constraint.initial_value is None and constraint.check(torch.as_tensor(value)):
            self._set_hyperparameter(name, value)

    def _raw(self, name: str) -> Tensor:
        raw: Tensor = getattr(self, f"raw_{name}")
        return raw

    def _get_hyperparameter(self, name: str) -> Tensor:
        raw = self._raw(name)
        return self.constraint_for_parameter_name(f"raw_{name}").transform(raw)

    def _set_hyperparameter(self, name: str, value: Tensor | float) -> None:
        raw = self._raw(name)
        value = torch.as_tensor(value, dtype=raw.dtype, device=raw.device)
        constraint = self.constraint_for_parameter_name(f"raw_{name}")
        raw_value = constraint.inverse_transform(value)
        if not (constraint.check(value) and bool(torch.isfinite(raw_value).all())):
            # BoTorch looks for this text when it samples from priors until the sample fits.
            raise DomainError(
                f"{name} is out of bounds of its current constraints: it must be finite and "
                f"satisfy {constraint}, got {value.tolist()}"
            )
        try:
            self.initialize(**{f"raw_{name}": raw_value})
        except RuntimeError as error:
            raise ValueError(
                f"{name} must be a number or of shape {tuple(raw.shape)}, got {tuple(value.shape)}"
            ) from error
