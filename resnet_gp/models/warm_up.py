"""Compile all loops beforehand: numba keeps them beside the package's files."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from resnet_gp.flow.autograd import compiled_loops
from resnet_gp.kernels.conv_resnet_limit_kernel import ConvResNetLimitKernel
from resnet_gp.kernels.resnet_limit_kernel import ResNetLimitKernel
from resnet_gp.kernels.resnet_tangent_kernel import ResNetTangentKernel
from resnet_gp.models.exact import ExactRegression
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.neighbourhoods import predicted_means, whitened
from resnet_gp.models.training_rows import Rows

_STEPS = ("covariances", "other activations", "images", "nearest neighbours")


def compile_loops() -> Iterator[str]:
    """Compile every loop for float64 and float32; yields what comes next.

    Raises:
        RuntimeError: numba is missing, or finds no folder for its cache.
    """
    if compiled_loops("flow.compiled", torch.zeros(1)) is None:
        raise RuntimeError(
            'there is nothing to compile without numba: pip install "resnet-gp[fast]"'
        )
    for dtype in (torch.float64, torch.float32):
        x = torch.linspace(-1, 1, 12, dtype=dtype).reshape(6, 2)
        for name, step in zip(
            _STEPS, (_covariances, _activations, _images, _neighbours), strict=True
        ):
            yield f"{name} in {str(dtype).removeprefix('torch.')}"
            step(x)


def _covariances(x: Tensor) -> None:
    for kernel in (ResNetLimitKernel(), ResNetTangentKernel()):
        kernel.to(x)(x).to_dense().sum().backward()
        ExactRegression(x, x[:, 0], kernel).log_marginal_likelihood().backward()


def _activations(x: Tensor) -> None:
    ResNetLimitKernel(activation="erf").to(x)(x).to_dense().sum().backward()


def _images(x: Tensor) -> None:
    ConvResNetLimitKernel((1, 2)).to(x)(x).to_dense()


def _neighbours(x: Tensor) -> None:
    model = NearestRegression(x, x[:, 0], ResNetLimitKernel(), n_neighbors=3)
    model.log_marginal_likelihood().backward()
    members = torch.arange(4)[None]
    rows = Rows(x[:4], x[:4, :1], torch.ones_like(x[:4, 0]))
    predicted_means(model.covar_module, rows, members).sum().backward()
    whitened(model.covar_module, rows, members)
