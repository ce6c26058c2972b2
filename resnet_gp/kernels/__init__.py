"""Thin GPyTorch adapters of the covariances in ``resnet_gp.flow``; no mathematics here."""

from resnet_gp.kernels.resnet_limit_kernel import ResNetLimitKernel

__all__ = ["ResNetLimitKernel"]
