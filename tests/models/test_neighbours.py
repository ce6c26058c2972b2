import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from scipy.spatial.distance import cdist

from resnet_gp.models import neighbours
from resnet_gp.models.neighbours import Neighbours

# Few different values: many points coincide, and many distances are equal.
COORDINATES = st.sampled_from([0.0, 1.0, 2.0, 5.0]) | st.floats(-1e3, 1e3, width=32)


@st.composite
def cases(draw):
    """Points, further points, where neighbours are wanted, and how many."""
    n, m, b, d = (draw(st.integers(*range_)) for range_ in ((1, 30), (0, 30), (1, 5), (1, 3)))
    points, more, at = (
        draw(arrays.arrays(np.float64, (rows, d), elements=COORDINATES)) for rows in (n, m, b)
    )
    return points, more, at, draw(st.integers(1, n + m))


def are_nearest(points, at, found, k):
    """Whether rows are different, in order, and as near as brute force finds."""
    distances = cdist(at, points)
    assert found.shape == (len(at), k)
    assert all(len(set(rows)) == k for rows in found.tolist())
    nearest = np.sort(distances, axis=1)[:, :k]
    np.testing.assert_allclose(np.take_along_axis(distances, found, 1), nearest, atol=1e-9)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_the_nearest_are_those_of_brute_force(case):
    points, more, at, k = case
    index = Neighbours(np.concatenate([points, more]))
    assert len(index) == len(points) + len(more)
    are_nearest(index.points, at, index.nearest(at, k), k)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_appended_points_count(case):
    points, more, at, k = case
    index = Neighbours(points).append(more[: len(more) // 2]).append(more[len(more) // 2 :])
    np.testing.assert_array_equal(index.points, np.concatenate([points, more]))
    are_nearest(index.points, at, index.nearest(at, k), k)


@settings(deadline=None, max_examples=60)
@given(cases())
def test_a_point_is_not_among_its_nearest_others(case):
    points, more, _, k = case
    index = Neighbours(points).append(more)
    rows = np.arange(len(index))[::-1]
    k = min(k, len(index) - 1)
    found = index.nearest_others(rows, k)
    assert found.shape == (len(rows), k)
    for row, others in zip(rows, found, strict=True):
        assert row not in others
        without = np.delete(index.points, row, axis=0)
        own = others - (others > row)
        are_nearest(without, index.points[row : row + 1], own[None], k)


def test_more_points_than_neighbours_coincide():
    index = Neighbours(np.zeros((40, 2)))
    found = index.nearest_others(np.arange(40), 3)
    assert all(row not in others for row, others in enumerate(found))
    assert all(len(set(others)) == 3 for others in found.tolist())


def test_appending_leaves_the_first_index_as_it_was():
    rng = np.random.default_rng(0)
    points, more = rng.normal(size=(50, 2)), rng.normal(size=(9, 2))
    index = Neighbours(points)
    before = index.nearest(more, 5)
    longer = index.append(more)
    assert len(index) == 50
    np.testing.assert_array_equal(index.nearest(more, 5), before)
    np.testing.assert_array_equal(longer.nearest(more, 1)[:, 0], np.arange(50, 59))


@pytest.mark.parametrize("waiting", [0, 5, 1000])
def test_when_the_tree_is_built_again_makes_no_difference(monkeypatch, waiting):
    monkeypatch.setattr(neighbours, "_WAITING", waiting)
    rng = np.random.default_rng(0)
    points, at = rng.normal(size=(60, 3)), rng.normal(size=(20, 3))
    index = Neighbours(points[:20])
    for point in points[20:]:
        index = index.append(point[None])
    np.testing.assert_array_equal(index.nearest(at, 25), Neighbours(points).nearest(at, 25))
