"""Thin GPyTorch adapters of the covariances in ``resnet_gp.flow``; no mathematics here."""

from resnet_gp.kernels.conv_resnet_limit_kernel import ConvResNetLimitKernel
from resnet_gp.kernels.resnet_limit_kernel import ResNetLimitKernel
from resnet_gp.kernels.resnet_sum_kernel import ResNetSumKernel
from resnet_gp.kernels.resnet_tangent_kernel import ResNetTangentKernel

__all__ = ["ConvResNetLimitKernel", "ResNetLimitKernel", "ResNetSumKernel", "ResNetTangentKernel"]
