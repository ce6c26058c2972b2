"""Regression on rows that stay with Dask's workers; needs ``resnet-gp[distributed]``."""

from resnet_gp.distributed.fit import fit
from resnet_gp.distributed.partitions import Partitions
from resnet_gp.distributed.predictions import DistributedFit

__all__ = ["DistributedFit", "Partitions", "fit"]
