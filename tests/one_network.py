"""Sums of one network, without the dimension of components."""

from resnet_gp.flow.depth import LIMIT
from resnet_gp.flow.unit_covariance import unit_covariance_sum


def unit_covariance(unit1, unit2, scale1, scale2, time, spec=LIMIT):
    """scale1_i scale2_j f(<unit1_i, unit2_j>), ``batch_shape x n x m``."""
    unit, scale = unit1[..., None, :, :], scale1[..., None, :]
    same = unit1 is unit2 and scale1 is scale2
    other = (unit, scale) if same else (unit2[..., None, :, :], scale2[..., None, :])
    return unit_covariance_sum(unit, other[0], scale, other[1], time[..., None], spec)
