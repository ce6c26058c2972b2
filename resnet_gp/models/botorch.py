"""A covariance module for BoTorch's models, which does not import BoTorch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from gpytorch.constraints import GreaterThan, Interval
from gpytorch.kernels import ScaleKernel
from gpytorch.priors import LogNormalPrior

from resnet_gp.kernels import ResNetLimitKernel
from resnet_gp.kernels.centred_kernel import CentredKernel

#: Set this as ``_subset_batch_dict`` of a ``SingleTaskGP`` of several outputs: by itself,
#: ``subset_output`` knows the batch dimensions only of BoTorch's own covariance module.
SUBSET_BATCH_DICT = {
    "likelihood.noise_covar.raw_noise": -2,
    "mean_module.raw_constant": -1,
    "covar_module.raw_outputscale": -1,
    "covar_module.base_kernel.base_kernel.raw_lengthscale": -3,
    "covar_module.base_kernel.base_kernel.raw_weight_variance": -3,
    "covar_module.base_kernel.base_kernel.raw_input_bias_variance": -3,
}


def get_covar_module_with_resnet_prior(
    ard_num_dims: int,
    batch_shape: torch.Size | None = None,
    activation: str = "relu",
    active_dims: Sequence[int] | None = None,
) -> ScaleKernel:
    """Return the infinite ResNet's kernel with priors, for unit-cube inputs and standardised data.

    The counterpart of ``botorch.models.utils.gpytorch_modules
    .get_covar_module_with_dim_scaled_prior``, for a model's ``covar_module``:

    * Inputs are centred at 1/2 inside the kernel (``CentredKernel``), which depends on the origin.
    * The prior variance is the same everywhere (``variance="unit"``). If it grew from the centre of
      the cube outwards, acquisition functions would propose one corner after the other. With
      ``contrast``, values in opposite directions are independent, and the mean is the model's.
    * The output scale is at least 1, the variance of the data: with a smaller one, a narrow peak is
      explained as noise about a constant.
    * The input layer has a bias, of variance 1: (l, sigma_in^2) and (s l, sigma_in^2 / s^2) are the
      same model.
    * The lengthscale's prior is BoTorch's (Hvarfner, Hellsten & Nardi 2024, "Vanilla Bayesian
      Optimization Performs Great in High Dimensions") without its shift by log(d) / 2: the kernel's
      q_0 holds a factor 1 / d already.
    * Parameters are bounded and not transformed, and every prior can be sampled into its parameter,
      as ``fit_gpytorch_mll`` does when it restarts.

    Args:
        ard_num_dims: d, the number of input dimensions.
        batch_shape: shape of the batch of hyperparameters; ``m`` for a model of m > 1 outputs.
        activation: "relu", "leaky_relu" or "abs".
        active_dims: the input dimensions to use, d of them; all if left out.

    Raises:
        ValueError: another activation.

    Example:
        >>> covar_module = get_covar_module_with_resnet_prior(ard_num_dims=train_X.shape[-1])
        >>> model = SingleTaskGP(train_X, train_Y, covar_module=covar_module)
        >>> model._subset_batch_dict = SUBSET_BATCH_DICT  # only for model.subset_output
        >>> fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    """
    lengthscale_prior = LogNormalPrior(loc=math.sqrt(2.0), scale=math.sqrt(3.0))
    outputscale_prior = LogNormalPrior(loc=1.0, scale=1.5)
    weight_variance_prior = LogNormalPrior(loc=math.log(5.0), scale=1.0)
    kernel = ResNetLimitKernel(
        activation,
        input_bias=True,
        variance="unit",
        contrast=True,
        ard_num_dims=ard_num_dims,
        batch_shape=batch_shape,
        active_dims=None if active_dims is None else tuple(active_dims),
        lengthscale_prior=lengthscale_prior,
        lengthscale_constraint=GreaterThan(
            2.5e-2, transform=None, initial_value=lengthscale_prior.mode
        ),
        weight_variance_prior=weight_variance_prior,
        weight_variance_constraint=Interval(
            1e-2, 1e3, transform=None, initial_value=weight_variance_prior.mode
        ),
    )
    kernel.get_parameter("raw_input_bias_variance").requires_grad_(False)
    return ScaleKernel(
        CentredKernel(kernel),
        batch_shape=batch_shape,
        outputscale_prior=outputscale_prior,
        outputscale_constraint=GreaterThan(
            1.0, transform=None, initial_value=outputscale_prior.loc.exp()
        ),
    )
