"""Variances of a network's weights and biases as hyperparameters of its kernel."""

from __future__ import annotations

from gpytorch.constraints import Interval
from gpytorch.priors import Prior
from torch import Tensor

from resnet_gp.kernels.hyperparameters import KernelWithHyperparameters


class NetworkKernel(KernelWithHyperparameters):
    """A kernel of an infinitely wide network, with the variances of its parameters.

    Attributes:
        input_bias, block_bias: whether the input layer and the residual blocks have biases.
    """

    input_bias: bool
    block_bias: bool

    def _add_variances(
        self,
        weight: tuple[Prior | None, Interval | None],
        input_bias: tuple[bool, Prior | None, Interval | None],
        block_bias: tuple[bool, Prior | None, Interval | None],
    ) -> None:
        """Add them with priors and constraints; those of biases only if the network has them."""
        self._add_variance("weight_variance", *weight)
        for name, (present, *own) in (("input_bias", input_bias), ("block_bias", block_bias)):
            if present:
                self._add_variance(f"{name}_variance", *own)
            elif own != [None, None]:
                raise ValueError(f"a prior or constraint of {name}_variance needs {name}=True")

    def _add_variance(self, name: str, prior: Prior | None, constraint: Interval | None) -> None:
        self._add(name, (1, 1), prior, constraint)
        self.start_at(name, 1.0)  # the paper's value

    def _raw(self, name: str) -> Tensor:
        if not hasattr(self, f"raw_{name}"):
            raise AttributeError(f"{name} exists only with {name.removesuffix('_variance')}=True")
        return super()._raw(name)

    @property
    def weight_variance(self) -> Tensor:
        """w, the variance of the residual weights times the width; ``batch_shape x 1 x 1``."""
        return self._get_hyperparameter("weight_variance")

    @weight_variance.setter
    def weight_variance(self, value: Tensor | float) -> None:
        self._set_hyperparameter("weight_variance", value)

    @property
    def input_bias_variance(self) -> Tensor:
        """sigma_in^2, ``batch_shape x 1 x 1``; AttributeError without ``input_bias``."""
        return self._get_hyperparameter("input_bias_variance")

    @input_bias_variance.setter
    def input_bias_variance(self, value: Tensor | float) -> None:
        self._set_hyperparameter("input_bias_variance", value)

    @property
    def block_bias_variance(self) -> Tensor:
        """sigma_b^2, ``batch_shape x 1 x 1``; AttributeError without ``block_bias``."""
        return self._get_hyperparameter("block_bias_variance")

    @block_bias_variance.setter
    def block_bias_variance(self, value: Tensor | float) -> None:
        self._set_hyperparameter("block_bias_variance", value)
