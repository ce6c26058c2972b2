"""Compile all loops beforehand: numba keeps them beside the package's files."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor, as_completed

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

_DTYPES = (torch.float64, torch.float32)


def compile_loops() -> Iterator[str]:
    """Compile every loop, for each precision in a process of its own; yields those that are done.

    Raises:
        RuntimeError: numba is missing, or finds no folder for its cache.
    """
    if compiled_loops("flow.compiled", torch.zeros(1)) is None:
        raise RuntimeError(
            'there is nothing to compile without numba: pip install "resnet-gp[fast]"'
        )
    with ProcessPoolExecutor(len(_DTYPES), multiprocessing.get_context("spawn")) as pool:
        running = {pool.submit(_compile, dtype): dtype for dtype in _DTYPES}
        for done in as_completed(running):
            done.result()
            yield str(running[done]).removeprefix("torch.")


def _compile(dtype: torch.dtype) -> None:
    x = torch.linspace(-1, 1, 12, dtype=dtype).reshape(6, 2)
    for loops in (_covariances, _activations, _images, _neighbours):
        loops(x)


def _covariances(x: Tensor) -> None:
    for kernel in (ResNetLimitKernel(), ResNetTangentKernel()):
        kernel.to(x)(x).to_dense().sum().backward()
        ExactRegression(x, x[:, 0], kernel).log_marginal_likelihood().backward()


def _activations(x: Tensor) -> None:
    for kernel in (ResNetLimitKernel(activation="erf"), ResNetLimitKernel(block_bias=True)):
        kernel.to(x)(x).to_dense().sum().backward()


def _images(x: Tensor) -> None:
    ConvResNetLimitKernel((1, 2)).to(x)(x).to_dense()


def _neighbours(x: Tensor) -> None:
    model = NearestRegression(x, x[:, 0], ResNetLimitKernel(), n_neighbors=3)
    model.log_marginal_likelihood().backward()
    members = torch.arange(4)[None]
    rows = Rows(x[:4], x[:4, :1], torch.ones_like(x[:4, 0]))
    predicted_means(model.covar_module, rows, members).sum().backward()
    whitened(model.covar_module, rows, members)
