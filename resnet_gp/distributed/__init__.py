"""Sparse regression on rows that stay with Dask's workers; needs ``resnet-gp[distributed]``."""

from resnet_gp.distributed.fit import DistributedFit, fit
from resnet_gp.distributed.partitions import Partitions
from resnet_gp.distributed.rows import DaskRows

__all__ = ["DaskRows", "DistributedFit", "Partitions", "fit"]
