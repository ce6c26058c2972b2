"""The nearest-neighbour model of rows on Dask's workers."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.distributed.rows import DaskRows
from resnet_gp.fitting.inference import Training, sampled_numbers
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.nearest import RowSource
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.posterior import UnsupportedError
from resnet_gp.models.regression import RegressionModel


class DaskRegression(NearestRegression):
    """``NearestRegression`` of rows on workers: only neighbours of sampled rows come here.

    Args:
        rows: in standard units; their noise does not count.
        is_vector: whether targets were given as a vector.
        kernel: as for ``NearestRegression``.
    """

    def __init__(self, rows: DaskRows, is_vector: bool, kernel: Kernel) -> None:
        RegressionModel.__init__(self)
        self.extra_variance = self.sample_weight = None
        self.is_vector, self._elsewhere = is_vector, rows
        self._build(kernel, 1, None)
        self.double()

    def rows(self) -> DaskRows:
        return self._elsewhere.with_noise(self.likelihood.noise.detach().squeeze())

    def extend(self, x: Tensor, y: Tensor, extra_variance: Tensor | None = None) -> None:
        raise UnsupportedError("rows on workers cannot take further ones: fit to all of them")


@dataclass(frozen=True)
class DaskSource(RowSource):
    """Rows on workers, for the fit.

    Attributes:
        rows: in standard units.
        num_dims: d.
        is_vector: whether targets were given as a vector.
    """

    rows: DaskRows
    num_dims: int
    is_vector: bool

    def __len__(self) -> int:
        return len(self.rows)

    def sample(self, size: int) -> Training:
        rows = self.rows.take(sampled_numbers(len(self), size))
        return Training(rows.x, rows.y[:, 0] if self.is_vector else rows.y)

    def turned(self, directions: NDArray[np.float64]) -> DaskSource:
        return replace(self, rows=self.rows.turned(directions))

    def model(self, spec: KernelSpec) -> DaskRegression:
        return DaskRegression(self.rows, self.is_vector, spec.build(self.num_dims))
