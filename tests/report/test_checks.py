import math

import numpy as np
import pytest
from scipy import stats

from resnet_gp.report.checks import Check, check_of_test, equality_checks, holm, judge


def test_holm_of_a_worked_example():
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([]) == []
    assert holm([math.nan, 0.9]) == [0.0, 0.9]


def test_z_and_two_sided_p():
    check = Check("x", 1.2, 0.1, 1.0)
    assert check.z == pytest.approx(2)
    assert check.p == pytest.approx(2 * stats.norm.sf(2))


@pytest.mark.parametrize(("estimate", "p"), [(0.8, stats.norm.sf(-2)), (1.2, stats.norm.sf(2))])
def test_a_bound_is_one_sided(estimate, p):
    assert Check("x", estimate, 0.1, 1.0, "at most").p == pytest.approx(p)


def test_numbers_without_noise():
    passed = [
        verdict.passed
        for verdict in judge(
            [
                Check("below", 0.9, None, 1.0, "at most"),
                Check("above", 1.1, None, 1.0, "at most"),
                Check("equal", 1.0, None, 1.0),
                Check("not equal", 1.1, None, 1.0),
                Check("unknown", math.nan, 0.1, 1.0),
            ]
        )
    ]
    assert passed == [True, False, True, False, False]


def test_z_of_a_p_value():
    check = Check("Kolmogorov-Smirnov", 0.02, None, 0.0, p_value=2 * stats.norm.sf(3))
    assert check.z == pytest.approx(3)
    assert check.p == check.p_value


def test_checks_of_arrays_and_of_tests():
    first, second = equality_checks(
        ["a", "b"], np.array([1.0, 2.0]), [0.1, 0.2], [1.5, 2.5], group="g"
    )
    assert first == Check("a", 1.0, 0.1, 1.5, group="g")
    assert second == Check("b", 2.0, 0.2, 2.5, group="g")
    with pytest.raises(ValueError, match="zip"):
        equality_checks(["a"], [1.0, 2.0], [0.1, 0.2], [1.5, 2.5])
    test = stats.kstest([0.1, 0.5, 0.6], "uniform")
    check = check_of_test("uniform", test, "differs")
    assert (check.estimate, check.p, check.kind) == (test.statistic, test.pvalue, "differs")


def test_differs_passes_where_the_data_show_it():
    seen, unseen = judge(
        [Check("a", 5.0, 1.0, 0.0, "differs"), Check("b", 2.0, 1.0, 0.0, "differs")]
    )
    assert (seen.passed, unseen.passed) == (True, False)


def test_true_predictions_fail_together_at_most_at_the_level():
    """500 families of 50 checks; the count of families that fail is binomial at worst."""
    z = np.random.default_rng(0).normal(size=(500, 50))
    failed = sum(
        not all(
            verdict.passed for verdict in judge([Check("x", float(x), 1.0, 0.0) for x in row], 0.1)
        )
        for row in z
    )
    assert stats.binom.cdf(failed, 500, 0.1) > 0.01
    assert stats.binom.sf(failed - 1, 500, 0.1) > 0.01


def test_one_false_prediction_among_many_fails_alone():
    checks = [Check("true", 0.5, 1.0, 0.0)] * 300 + [Check("false", 10.0, 1.0, 0.0)]
    assert [verdict.check.name for verdict in judge(checks) if not verdict.passed] == ["false"]


@pytest.mark.parametrize(
    "unknown",
    [
        Check("both", math.nan, math.nan, 0.0, "differs"),
        Check("estimate", math.nan, 0.1, 0.0, "differs"),
        Check("error", 1.0, math.nan, 0.0, "differs"),
        Check("p-value", 0.0, None, 0.0, "differs", math.nan),
        Check("equal", 0.0, 0.0, 0.0, "differs"),
        Check("p-value", 0.0, None, 0.0, "equals", math.nan),
        Check("error", 1.0, math.nan, 1.0, "at most"),
        Check("error", 1.0, math.inf, 1.0, "equals"),
        Check("error", 1.0, math.inf, 0.0, "differs"),
    ],
)
def test_what_is_not_known_does_not_pass(unknown):
    [verdict] = judge([unknown])
    assert not verdict.passed
