"""Two worker processes, and one fit that tests of predictions share."""

from __future__ import annotations

import numpy as np
import pytest

D = 3


@pytest.fixture(scope="session")
def client():
    distributed = pytest.importorskip("distributed")
    cluster = distributed.LocalCluster(
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0"
    )
    with cluster, distributed.Client(cluster) as client:
        yield client


@pytest.fixture(scope="session")
def data():
    """Inputs and two outputs."""
    rng = np.random.default_rng(0)
    x = 3 + 2 * rng.normal(size=(400, D))
    y = np.column_stack([np.sin(x[:, 0]) + 0.2 * x[:, 1], x[:, 2] ** 2])
    return x, y + 0.1 * rng.normal(size=y.shape)


@pytest.fixture(scope="session")
def chunked():
    """Arrays as collections whose chunks have these rows."""
    da = pytest.importorskip("dask.array")

    def chunked(*arrays, rows=90):
        return [da.from_array(each, chunks=(rows, *each.shape[1:])) for each in arrays]

    return chunked


@pytest.fixture(scope="session")
def options():
    """Of a fit that takes little time."""
    from resnet_gp.fitting.kernel_spec import KernelSpec

    kernel = KernelSpec("limit", "relu", None, False)
    return {"kernels": [kernel], "n_neighbors": 20, "max_iter": 4}


@pytest.fixture(scope="session")
def fitted(client, data, chunked, options):
    """To the first output, in five partitions."""
    from resnet_gp.distributed import fit

    x, y = data
    return fit(client, *chunked(x, y[:, 0]), **options)
