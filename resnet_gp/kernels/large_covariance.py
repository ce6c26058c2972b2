"""Covariance matrices too large for a GPU's memory, as linear operators."""

from __future__ import annotations

import torch
from linear_operator.operators import KernelLinearOperator
from torch import Tensor

from resnet_gp.flow.covariance import Networks
from resnet_gp.flow.depth import DepthMap
from resnet_gp.flow.unit_covariance import unit_covariance_sum
from resnet_gp.flow.unit_product import unit_covariance_product

#: Entries of the largest matrix that is stored on a GPU. Conjugate gradients multiply by it many
#: times, and reading an entry is quicker than computing it: a matrix is worth its memory while
#: there is some. It takes 4 GiB in float32 and 8 GiB in float64, and a backward pass or an output
#: scale the same again.
LARGEST_MATRIX = 2**30


def is_too_large(x1: Tensor, x2: Tensor) -> bool:
    """Whether the covariance of two sets of inputs is to be an operator.

    It is on GPUs above ``LARGEST_MATRIX``. On the CPU, where blocks of rows are dense anyway and
    an exact fit of that size takes days, matrices are always stored.
    """
    if x1.device.type != "cuda" or x1.dtype not in (torch.float32, torch.float64):
        return False
    batch = torch.broadcast_shapes(x1.shape[:-2], x2.shape[:-2])
    return batch.numel() * x1.shape[-2] * x2.shape[-2] > LARGEST_MATRIX


def large_covariance(networks: Networks, x1: Tensor, x2: Tensor) -> NetworksOperator:
    """The covariance of ``batch_shape x n x d`` and ``batch_shape x m x d`` inputs."""
    factor = networks.factor()
    packed1 = _packed(*networks.points(x1, factor))
    packed2 = packed1 if x1 is x2 else _packed(*networks.points(x2, factor))
    return NetworksOperator(
        packed1,
        packed2,
        covar_func=_dense,
        num_nonbatch_dimensions={"time": 1},
        time=networks.time,
        spec=networks.map,
    )


class NetworksOperator(KernelLinearOperator):
    """``unit_covariance_sum`` as a matrix of which products store no more than some rows.

    Products are differentiable once. A point is one row of the units and scales of its C
    components, ``batch_shape x n x C (d + 1)``.
    """

    def to_dense(self) -> Tensor:
        dense: Tensor = self.covar_mat
        return dense

    def _matmul(self, rhs: Tensor) -> Tensor:
        if rhs.dim() == 1:
            return self._matmul(rhs[:, None])[..., 0]
        time, spec = self.tensor_params["time"], self.nontensor_params["spec"]
        return unit_covariance_product(*_sides(self.x1, self.x2, time), time, rhs, spec)


def _dense(x1: Tensor, x2: Tensor, time: Tensor, spec: DepthMap) -> Tensor:
    return unit_covariance_sum(*_sides(x1, x2, time), time, spec)


def _packed(unit: Tensor, scale: Tensor) -> Tensor:
    unit = unit.expand(*scale.shape, -1)
    return torch.cat([unit, scale[..., None]], -1).movedim(-3, -2).flatten(-2)


def _sides(x1: Tensor, x2: Tensor, time: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Units and scales of the points."""

    def unpacked(x: Tensor) -> tuple[Tensor, Tensor]:
        x = x.unflatten(-1, (time.shape[-1], -1)).movedim(-2, -3)
        return x[..., :-1], x[..., -1]

    unit1, scale1 = unpacked(x1)
    unit2, scale2 = (unit1, scale1) if x1 is x2 else unpacked(x2)
    return unit1, unit2, scale1, scale2
