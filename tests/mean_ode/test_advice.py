import math

import pytest

from resnet_gp.mean_ode import advise_scale


def test_the_advised_scale_is_the_critical_one():
    advice = advise_scale(16, 8, 100)
    assert advice.residual_scale == pytest.approx(4 / 800)
    assert advice.alpha == 1
    assert advice.learning_rate_U == advice.learning_rate_V == 16 * 800
    assert advice.regime == "complete feature learning"
    assert advice.distance_to_limit == pytest.approx(0.15 / 100 + 0.22 * math.sqrt(16 / 800))
    assert "2509.10167" in " ".join(advice.sources)


@pytest.mark.parametrize(
    ("alpha", "regime"),
    [
        (0.01, "small initialisation"),
        (1.0, "complete feature learning"),
        (5.0, "lazy"),
        (10.0, "outside the theory"),
    ],
)
def test_regimes(alpha, regime):
    D, M, L = 10, 10, 64  # sqrt(LM / D) = 8
    advice = advise_scale(D, M, L, alpha * math.sqrt(D) / (L * M))
    assert advice.alpha == pytest.approx(alpha)
    assert advice.regime == regime


def test_a_lazy_network_is_further_from_its_limit():
    assert advise_scale(10, 10, 64, "lazy").width_error > 2 * advise_scale(10, 10, 64).width_error


@pytest.mark.parametrize("name", ["D", "M", "L"])
def test_bad_sizes_are_named(name):
    with pytest.raises(ValueError, match=f"{name} must be an integer of at least 1, got 0"):
        advise_scale(**{"D": 4, "M": 4, "L": 4} | {name: 0})
