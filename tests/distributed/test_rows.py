import numpy as np
import pytest
import torch

pytest.importorskip("distributed")

from resnet_gp.distributed import Partitions
from resnet_gp.distributed.fit import standardised
from resnet_gp.fitting.standardise import Standardiser
from resnet_gp.fitting.units import Units
from resnet_gp.models.posterior import UnsupportedError
from resnet_gp.models.training_rows import Rows


@pytest.fixture
def here_and_there(client, data, chunked):
    """The same rows twice; two of the chunks have no rows."""
    import dask.array as da

    x, y = data
    units = Units(Standardiser.of(x), Standardiser.of(y))
    chunks = (0, 200, 10, 0, 190)
    lazy = [da.from_array(part, chunks=(chunks, part.shape[1])) for part in (x, y)]
    there = standardised(Partitions(client, *lazy), units)
    noise = torch.tensor(0.1, dtype=torch.float64)
    here = Rows(units.x(x), units.y(y), noise.expand(len(x)))
    return here, there.with_noise(noise)


def test_rows_are_taken_by_number(here_and_there):
    here, there = here_and_there
    assert len(there) == len(here)
    assert there.sizes == [200, 10, 190]
    numbers = torch.tensor([399, 3, 205, 3, 0, 210])
    one, other = here.take(numbers), there.take(numbers)
    for name in ("x", "y", "noise"):
        assert torch.equal(getattr(one, name), getattr(other, name))
    with pytest.raises(UnsupportedError, match="cannot take further"):
        there.append(one)


@pytest.mark.parametrize("k", [1, 15, 399])  # one partition has ten rows
def test_neighbours_are_the_local_ones(here_and_there, k):
    widths = torch.tensor([0.5, 1.0, 2.0], dtype=torch.float64)
    here, there = (rows.searched(widths) for rows in here_and_there)
    numbers = np.array([5, 205, 399, 0])
    points = here.take(numbers)
    np.testing.assert_array_equal(there.take(numbers), points)
    np.testing.assert_array_equal(there.nearest(points + 0.1, k), here.nearest(points + 0.1, k))
    np.testing.assert_array_equal(there.nearest_others(numbers, k), here.nearest_others(numbers, k))
