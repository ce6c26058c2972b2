import numpy as np
import pytest

from resnet_gp.predictive import Law, ResidualLaw
from resnet_gp.predictive.leave_pair_out import leave_pair_out

N = 9


def covariance(lengthscale, noise, x):
    return np.exp(-((x[:, None] - x) ** 2) / lengthscale) + noise * np.eye(len(x))


def conditional(K, y, rows, j):
    """Mean and standard deviation of y_j given some rows, by solving."""
    solved = np.linalg.solve(K[np.ix_(rows, rows)], np.column_stack([y[rows], K[rows, j]]))
    return K[j, rows] @ solved[:, :-1], np.sqrt(K[j, j] - K[j, rows] @ solved[:, -1])


@pytest.mark.parametrize("outputs", [(), (2,)])
@pytest.mark.parametrize("further", [np.zeros(N), np.linspace(-0.05, 0.5, N)])
def test_rows_without_one_more_row(outputs, further):
    rng = np.random.default_rng(0)
    x, y = np.sort(rng.uniform(0, 3, N)), rng.normal(size=(N, *outputs))
    matrices = [covariance(0.5, 0.1, x), covariance(2.0, 0.3, x)]
    precisions = [np.linalg.inv(K) for K in matrices]
    weights = rng.dirichlet([1, 1], (N, *outputs))
    weights = np.moveaxis(weights, -1, 0)
    found = leave_pair_out([(Q, Q @ y, further) for Q in precisions], weights)
    assert found.shape == (N, N, *outputs)
    for i in range(N):
        for j in range(N):
            if i == j:
                np.testing.assert_array_equal(found[i, i], 0)
                continue
            rows = [r for r in range(N) if r not in (i, j)]
            parts = [conditional(K, y.reshape(N, -1), rows, j) for K in matrices]
            means = np.stack([mean.reshape(outputs) for mean, _ in parts])
            stds = [np.sqrt(std**2 + further[j]) for _, std in parts]
            scales = np.stack([np.full(outputs, std) for std in stds])
            law = Law(means, scales, weights[:, j])
            np.testing.assert_allclose(found[i, j], (y[j] - law.mean) / law.std, rtol=1e-9)


def test_members_without_weight_do_not_count():
    rng = np.random.default_rng(0)
    x, y = rng.uniform(0, 3, N), rng.normal(size=N)
    precisions = [np.linalg.inv(covariance(s, 0.1, x)) for s in (0.5, 2.0)]
    members = [(Q, Q @ y, np.zeros(N)) for Q in precisions]
    weights = np.array([np.zeros(N), np.ones(N)])
    alone = leave_pair_out(members[1:], weights[1:])
    np.testing.assert_allclose(leave_pair_out(members, weights), alone, rtol=1e-12)


def test_duplicates_stay_finite():
    x, y = np.repeat(np.arange(3.0), 3), np.repeat([0.0, 1.0, -1.0], 3)
    Q = np.linalg.inv(covariance(1.0, 1e-8, x))
    assert np.isfinite(leave_pair_out([(Q, Q @ y, np.zeros(N))], np.ones((1, N)))).all()


def test_normal_data_look_normal():
    """Residuals with one row left out make a local scale appear that is not there."""
    nu0 = []
    for seed in range(10):
        rng = np.random.default_rng(seed)
        x = rng.uniform(0, 10, 150)
        K = covariance(0.5, 0.01, x)
        y = np.linalg.cholesky(K) @ rng.normal(size=150)
        Q = np.linalg.inv(K)
        solution, own = Q @ y, np.diagonal(Q)
        left_out = Law.normal(y - solution / own, own**-0.5)
        distances = (x[:, None] - x) ** 2
        pairs = leave_pair_out([(Q, solution, np.zeros(150))], np.ones((1, 150)))
        nu0.append([ResidualLaw.fit(y, left_out, distances, p).nu0 for p in (None, pairs)])
    without, with_pairs = np.log(nu0).T
    difference = with_pairs - without
    assert difference.mean() > 3 * difference.std() / len(difference) ** 0.5
