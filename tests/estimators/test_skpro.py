"""skpro's own checks, and what they do not see."""

import warnings

import numpy as np
import pytest
from sklearn.gaussian_process import GaussianProcessRegressor

pd = pytest.importorskip("pandas")
pytest.importorskip("skpro", reason="skpro is in the extra skpro")

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    from skpro.metrics import CRPS, LogLoss
    from skpro.utils import check_estimator

from resnet_gp import ResNetGPRegressor
from resnet_gp.estimators.skpro import LawDistribution, ProbaRegressor
from resnet_gp.predictive import Law

RNG = np.random.default_rng(0)
X = pd.DataFrame(RNG.normal(size=(40, 2)), columns=["a", "b"], index=range(100, 140))
Y = pd.DataFrame({"y": np.sin(2 * X["a"]) + 0.1 * RNG.normal(size=40)})


@pytest.fixture(scope="module")
def fitted():
    return ProbaRegressor(ResNetGPRegressor(verbose=False)).fit(X[:30], Y[:30])


@pytest.mark.filterwarnings("ignore")
@pytest.mark.parametrize("tested", [LawDistribution, ProbaRegressor])
def test_the_checks_of_skpro(tested):
    results = check_estimator(tested, raise_exceptions=False, verbose=False)
    assert len(results) > 50
    assert {name: result for name, result in results.items() if result != "PASSED"} == {}


def test_predictions_are_those_of_the_estimator(fitted):
    law = fitted.estimator_.predict_law(X[30:])
    found = fitted.predict_proba(X[30:])
    assert (found.index == X.index[30:]).all()
    assert list(found.columns) == ["y"]
    np.testing.assert_array_equal(fitted.predict(X[30:])["y"], law.mean)
    np.testing.assert_allclose(fitted.predict_var(X[30:])["y"], law.variance)
    bounds = fitted.predict_interval(X[30:], 0.8)
    np.testing.assert_allclose(bounds.to_numpy().T, law.interval(0.8))
    truth = Y[30:]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        crps, loss = (metric()(truth, found) for metric in (CRPS, LogLoss))
    assert crps == pytest.approx(law.crps(truth["y"]).mean())
    assert loss == pytest.approx(-law.log_density(truth["y"]).mean())


def test_distributions_are_those_of_mixtures():
    means, scales = RNG.normal(size=(3, 4, 2)), RNG.uniform(0.5, 2, size=(3, 4, 2))
    law = Law(means, scales, [0.2, 0.3, 0.5], 4.0)
    distribution = LawDistribution(law, columns=["a", "b"])
    x = RNG.normal(size=(4, 2))
    np.testing.assert_allclose(distribution.cdf(x), law.cdf(x))
    np.testing.assert_allclose(distribution.energy()["energy"], law.mean_difference.sum(1))
    np.testing.assert_allclose(distribution.energy(x)["energy"], law.mean_distance(x).sum(1))
    part = distribution.iloc[[2, 0], [1]]
    np.testing.assert_allclose(part.mean(), law.mean[[2, 0]][:, [1]])
    assert distribution.iat[1, 0].var() == pytest.approx(law.variance[1, 0])
    np.testing.assert_allclose(distribution.ppf(distribution.cdf(x)), x)


def test_updates_condition_on_the_rows():
    model = ProbaRegressor(ResNetGPRegressor(verbose=False)).fit(X[:30], Y[:30])
    model.update(X[30:], Y[30:])
    whole = model.estimator_
    assert len(whole.X_train_) == 40
    apart = ResNetGPRegressor(verbose=False).fit(X[:30], Y["y"][:30])
    apart.add_observations(X[30:], Y["y"][30:])
    np.testing.assert_allclose(model.predict(X)["y"], apart.predict(X))


def test_several_outputs_and_other_estimators():
    both = pd.concat([Y, -Y.rename(columns={"y": "z"})], axis=1)
    found = ProbaRegressor().fit(X, both).predict_proba(X)
    assert found.shape == (40, 2)
    np.testing.assert_allclose(found.mean()["y"], -found.mean()["z"])
    peer = ProbaRegressor(GaussianProcessRegressor(alpha=0.01)).fit(X, Y)
    mean, std = peer.estimator_.predict(X, return_std=True)
    np.testing.assert_allclose(peer.predict_var(X)["y"], std**2)
    np.testing.assert_allclose(peer.predict(X)["y"], mean)


def test_only_what_takes_rows_is_updated():
    assert ProbaRegressor().get_tag("capability:update")
    assert ProbaRegressor(ResNetGPRegressor()).get_tag("capability:update")
    assert not ProbaRegressor(GaussianProcessRegressor()).get_tag("capability:update")
