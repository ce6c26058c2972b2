import numpy as np
import pytest
from scipy.stats import norm, rankdata

from resnet_gp.estimators.encode import Inputs, columns_of_few_values, scaler_of
from resnet_gp.fitting.standardise import Standardiser


def table(n=60, seed=0):
    """Two numbers, the indicators of three categories between them, and a column of few values."""
    rng = np.random.default_rng(seed)
    indicators = np.eye(3)[rng.choice(3, n, p=[0.7, 0.2, 0.1])]
    few = rng.integers(4, size=n).astype(float)
    return np.column_stack([rng.normal(size=n), indicators, rng.normal(size=n), few])


def test_numbers_alone_are_standardised():
    X = table()
    plain, found = Standardiser.of(X), scaler_of(X, [])
    assert (found.mean == plain.mean).all()
    assert (found.scale == plain.scale).all()


def test_a_column_of_categories_weighs_as_much_as_a_number():
    X, indicators = table(), slice(1, 4)
    scaled = scaler_of(X, [indicators])(X).numpy()
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-12)
    squares = (scaled**2).mean(0)
    assert squares.mean() == pytest.approx(1)  # as of standardised numbers
    assert squares[indicators].sum() == pytest.approx(squares[0])
    kept = X[:, indicators] @ np.ones(3)  # one scale: differences of categories stay alike
    np.testing.assert_allclose(kept, 1)
    assert len(set(scaler_of(X, [indicators]).scale[indicators])) == 1


def test_a_second_view_sees_few_values_as_categories():
    X, indicators = table(), slice(1, 4)
    inputs = Inputs(X, [indicators], True)
    assert inputs.blocks == [(0, 1, 2, 3, 4, 5), tuple(range(6, 15))]
    both = inputs(X).numpy()
    np.testing.assert_array_equal(both[:, :6], scaler_of(X, [indicators])(X))
    expanded = np.column_stack([np.eye(4)[X[:, 5].astype(int)], X[:, :5]])
    expected = scaler_of(expanded, [slice(0, 4), slice(5, 8)])(expanded)
    np.testing.assert_allclose(both[:, 6:], expected)
    assert Inputs(X, [indicators], False).blocks == inputs.blocks[:1]


def test_a_last_view_has_ranks_in_the_place_of_skewed_features():
    rng = np.random.default_rng(0)
    X = np.column_stack([rng.lognormal(size=60), rng.normal(size=60), rng.integers(4, size=60)])
    inputs = Inputs(X, [], True)
    assert inputs.blocks == [(0, 1, 2), (4, 5, 6, 7, 8, 9), (1, 2, 3)]
    found = inputs(X).numpy()
    np.testing.assert_array_equal(found[:, :3], Standardiser.of(X)(X))
    ranks = rankdata(X[:, 0])
    np.testing.assert_allclose(found[:, 3], (ranks - ranks.mean()) / ranks.std())


def test_numbers_that_differ_by_rounding_are_no_categories():
    step = np.spacing(0.3)
    X = np.column_stack([0.3 + step * (np.arange(12) % 3), np.arange(12) % 3])
    assert columns_of_few_values(X) == [1]


def test_normal_scores_take_the_place_of_features_of_many_values():
    X, indicators = table(200), slice(1, 4)
    X[:, 0] = np.exp(X[:, 0])
    inputs = Inputs(X, [indicators], True, tries_scores=True)
    plain = Inputs(X, [indicators], True)
    assert inputs.blocks == plain.blocks
    assert plain.scores == ()
    # The indicators, the codes as a number, the categories of the codes, and two scores.
    assert inputs.scores == (1, 2, 3, 5, 7, 8, 9, 10, 16, 17)
    found = inputs(X).numpy()
    np.testing.assert_array_equal(found[:, :16], plain(X))
    for column, scores in zip((0, 4), found[:, 16:].T, strict=True):
        expected = norm.ppf((rankdata(X[:, column]) - 0.5) / 200)
        np.testing.assert_allclose(scores[expected**2 < 4], expected[expected**2 < 4], atol=0.08)
        assert scores.mean() == pytest.approx(0, abs=1e-12)
        assert np.abs(scores).max() < 3.1
    far = X[:2].copy()
    far[:, 0] = -1e6, 1e6
    ends = found[:, 16].min(), found[:, 16].max()
    np.testing.assert_allclose(inputs(far)[:, 16], ends, rtol=1e-12)
    assert Inputs(table(200), [indicators], True, tries_scores=True).scores == ()  # not skewed
    few = np.repeat([[0.0], [1.0], [50.0]], [20, 20, 1], axis=0)
    assert Inputs(few, [], False, tries_scores=True).scores == ()
