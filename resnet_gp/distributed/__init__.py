"""Sparse Gaussian process regression on rows that stay in the memory of Dask's workers.

Hyperparameters and matrices of inducing points are sent out, sums over rows come back. The
mathematics is in ``resnet_gp.models``. Needs the extra ``distributed``.
"""

from resnet_gp.distributed.fit import DistributedFit, fit
from resnet_gp.distributed.partitions import Partitions
from resnet_gp.distributed.rows import DaskRows

__all__ = ["DaskRows", "DistributedFit", "Partitions", "fit"]
