"""Drop-in replacements for kernels, whose matrix is never stored; need ``resnet-gp[keops]``."""

from resnet_gp.kernels.keops.resnet_limit_kernel import ResNetLimitKernel

__all__ = ["ResNetLimitKernel"]
