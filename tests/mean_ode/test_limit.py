import numpy as np
import pytest
from scipy import stats

from resnet_gp.mean_ode.limit import FIRST_ORDER, SECOND_ORDER, limit
from resnet_gp.mean_ode.linearised import LinearisedSweep
from resnet_gp.mean_ode.training import train
from resnet_gp.mean_ode.training_lab import TrainingLab
from resnet_gp.mean_ode.units import even_units

STEPS = 20


@pytest.fixture(scope="module")
def lab():
    return TrainingLab(seed=1, quick=True)


@pytest.fixture(scope="module")
def found(lab):
    return limit(lab, "test", lab.data(0, 10), STEPS)


def test_weights_remove_the_orders_that_they_name():
    """The weights are those of values 1 + a/L + b/L^2 at depths L, L/2 and L/4."""
    for weights, orders in ((FIRST_ORDER, 1), (SECOND_ORDER, 2)):
        for order in range(1, orders + 1):
            assert np.dot(weights, [1, 2**order, 4**order]) == pytest.approx(0)
        assert sum(weights) == pytest.approx(1)


def test_its_error_is_what_another_estimate_shows(lab, found):
    """Two estimates differ by their sampling errors: chi^2 with few degrees of freedom."""
    other = limit(lab, "another", lab.data(0, 10), STEPS)
    expected = found.sampling_variance + other.sampling_variance
    ratio = np.mean((found.mean - other.mean) ** 2) / expected
    assert stats.chi2.ppf(1e-3, 8) / 8 < ratio < stats.chi2.isf(1e-3, 8) / 8
    assert 0 < found.depth_error < 0.02
    assert found.error >= found.depth_error


def test_deep_networks_of_width_one_have_this_limit(lab, found):
    """Independent units, one in each layer: the squared distance is zero up to its own noise."""
    seeds = 24
    runs = lab.train("test", [lab.data(0, 10)] * seeds, 1, 256, STEPS)
    mean, variance = runs.output.mean(0), runs.output.var(0, ddof=1) / seeds
    depth_bias = 0.2 / 256
    expected = variance.mean() + found.sampling_variance + depth_bias**2
    ratio = np.mean((mean - found.mean) ** 2) / expected
    assert ratio < stats.chi2.isf(1e-3, 8) / 8


def test_a_lazy_step_is_that_of_the_kernel_machine(lab):
    """One step of one layer moves h by -sum_n k(h, h_n) p_n; the kernel is by quadrature."""
    D, M = 4, 2**13
    X, Y = (a[:3, :] for a in lab.data(0, D))
    units = [even_units(lab.rng("kernel", r), D, M, 1) for r in range(8)]
    networks = lab.networks(units, [(X, Y)] * len(units), np.ones(len(units)))
    output = train(networks, 1, LinearisedSweep).output.double().numpy()
    moved = output - X
    adjoints = (X - Y) / X.size
    predicted = -kernel(X, D) @ adjoints
    error = moved.std(0, ddof=1) / np.sqrt(len(units))
    z = (moved.mean(0) - predicted) / error
    assert stats.t.sf(np.abs(z).max(), len(units) - 1) * 2 * z.size > 0.01


def kernel(X, D):
    """D (E[tanh tanh] + E[tanh' tanh'] x.x' / D), by Gauss-Hermite quadrature."""
    nodes, weights = np.polynomial.hermite_e.hermegauss(60)
    weights = weights / weights.sum()
    count = len(X)
    found = np.empty((count, count))
    covariance = X @ X.T / D
    for i in range(count):
        for j in range(count):
            pair = covariance[np.ix_([i, j], [i, j])] + 1e-12 * np.eye(2)
            root = np.linalg.cholesky(pair)
            u = root[0, 0] * nodes[:, None] + 0 * nodes
            v = root[1, 0] * nodes[:, None] + root[1, 1] * nodes
            both = weights[:, None] * weights
            values = np.sum(both * np.tanh(u) * np.tanh(v))
            slopes = np.sum(both * (1 - np.tanh(u) ** 2) * (1 - np.tanh(v) ** 2))
            found[i, j] = D * (values + slopes * covariance[i, j])
    return found
