"""Sparse Gaussian process regression on rows that only Dask's workers hold.

Hyperparameters and matrices of inducing points go out, sums over rows come back; no mathematics is
here. Needs the extra ``distributed``.
"""

from resnet_gp.distributed.fit import DistributedFit, fit
from resnet_gp.distributed.partitions import Partitions
from resnet_gp.distributed.rows import DaskRows

__all__ = ["DaskRows", "DistributedFit", "Partitions", "fit"]
