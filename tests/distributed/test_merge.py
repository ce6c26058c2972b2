"""Searches of partitions, merged, against one sort of all distances."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist

pytest.importorskip("distributed")

from resnet_gp.distributed.merge import (
    PartitionIndex,
    first_counts,
    further,
    merged,
    with_more,
)

SIZES = st.lists(st.integers(1, 40), min_size=1, max_size=5)


def search(parts, points, k):
    """What tasks do, one after the other; and how many candidates partitions sent."""
    firsts = np.cumsum([0, *map(len, parts)])
    indices = [PartitionIndex(*each) for each in zip(parts, firsts, strict=False)]
    counts = first_counts([len(part) for part in parts], k)
    found = [index.nearest(points, count) for index, count in zip(indices, counts, strict=True)]
    near = merged(found, k)
    within = near.distances[:, -1]
    more = [
        further(index, points, own, within, k) for index, own in zip(indices, found, strict=True)
    ]
    sent = sum(own.rows.size for own in found) + sum(one.near.rows.size for one in more)
    return with_more(near, more), sent


def by_sorting(parts, points, k):
    distances = cdist(points, np.concatenate(parts))
    order = np.lexsort((np.broadcast_to(np.arange(distances.shape[1]), distances.shape), distances))
    return order[:, :k]


@settings(max_examples=60, deadline=None)
@given(SIZES, st.integers(1, 60), st.integers(0, 10**6), st.booleans(), st.booleans())
def test_neighbours_are_those_of_one_sort(sizes, k, seed, in_order, on_a_lattice):
    rng = np.random.default_rng(seed)
    points = rng.normal(size=(sum(sizes), 2))
    if on_a_lattice:
        points = points.round()  # many at the same distance, which is exact
    if in_order:
        points = points[np.argsort(points[:, 0])]
    parts, k = np.split(points, np.cumsum(sizes)[:-1]), min(k, sum(sizes))
    wanted = np.concatenate([points[:5], rng.normal(size=(3, 2)).round()])
    near, _ = search(parts, wanted, k)
    np.testing.assert_array_equal(near.rows, by_sorting(parts, wanted, k))
    np.testing.assert_allclose(
        near.distances, np.sort(cdist(wanted, points), axis=1)[:, :k], atol=1e-12
    )


def test_partitions_of_random_rows_send_few_candidates():
    rng = np.random.default_rng(0)
    parts, points = np.split(rng.normal(size=(20_000, 3)), 20), rng.normal(size=(50, 3))
    near, sent = search(parts, points, 100)
    np.testing.assert_array_equal(near.rows, by_sorting(parts, points, 100))
    assert sent < 3 * 100 * len(points)  # of 20 * 100 * 50


def test_thousands_of_coinciding_rows_are_taken_in_their_order():
    parts = [np.zeros((700, 2)), np.ones((3, 2)), np.zeros((700, 2))]
    near, _ = search(parts, np.zeros((1, 2)), 900)
    expected = [*range(700), *range(703, 903)]
    np.testing.assert_array_equal(near.rows[0], expected)


@given(SIZES, st.integers(1, 100))
def test_first_answers_are_enough_and_possible(sizes, k):
    k = min(k, sum(sizes))
    counts = first_counts(sizes, k)
    assert sum(counts) >= k
    assert all(1 <= count <= size for count, size in zip(counts, sizes, strict=True))
