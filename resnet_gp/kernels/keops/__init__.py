"""Kernels whose matrix is never stored: KeOps computes its products entry by entry.

Drop-in replacements, as in ``gpytorch.kernels.keops``; they need the extra ``resnet-gp[keops]``.
"""

from resnet_gp.kernels.keops.resnet_limit_kernel import ResNetLimitKernel

__all__ = ["ResNetLimitKernel"]
