"""Tuned packages: each learns what can be learnt; searches keep to rows, time and seeds."""

import time

import numpy as np
import pytest
from scipy.stats import norm
from scripts import load

from resnet_gp.predictive.scores import scores_of

peers = load("benchmarks", "peers")
RNG = np.random.default_rng(0)


def curve(n: int) -> tuple[np.ndarray, np.ndarray]:
    X = RNG.normal(size=(n, 3))
    return X, np.sin(2 * X[:, 0]) + X[:, 1] + 0.1 * RNG.normal(size=n)


def blobs(n: int, k: int) -> tuple[np.ndarray, np.ndarray]:
    y = RNG.integers(k, size=n)
    return 3 * np.eye(k)[y] + RNG.normal(size=(n, k)), y


def present(peer):
    pytest.importorskip(peer.package, reason=f"{peer.package} is in the extra peers")
    return peer


@pytest.mark.parametrize("name", list(peers.REGRESSORS))
def test_regressors(name, monkeypatch):
    monkeypatch.setattr(peers, "TREES", 100)
    peer = present(peers.REGRESSORS[name])
    (X, y), (new, truth) = curve(200), curve(400)
    setting = peers.search(peer, X, y, seconds=0)
    predict = peers.fit(peer, setting, X, y)
    scores = scores_of(predict(new), truth)
    assert scores.rmse < (0.85 if name == "svgp" else 0.6) * truth.std()  # has 20 steps here
    assert scores.crps < 0.5 * truth.std()
    assert scores.coverage > 0.7
    assert np.isfinite(scores.nlpd) == (name != "quantile_forest")


@pytest.mark.parametrize("k", [2, 4])
@pytest.mark.parametrize("name", list(peers.CLASSIFIERS))
def test_classifiers(name, k):
    peer = present(peers.CLASSIFIERS[name])
    (X, y), (new, truth) = blobs(150, k), blobs(300, k)
    predict = peers.fit(peer, peers.search(peer, X, y, 0, k), X, y, k)
    p = predict(new)
    assert p.shape == (300, k)
    np.testing.assert_allclose(p.sum(1), 1, atol=1e-5)
    assert (p.argmax(1) == truth).mean() > 0.8


def test_quantiles_have_the_scores_of_their_law():
    y = RNG.normal(size=200)
    exact = norm.ppf(peers.LEVELS)
    law = peers.Quantiles(np.zeros(200), np.tile(exact, (200, 1)))
    # Gneiting & Raftery (2007), equation 5
    expected = y * (2 * norm.cdf(y) - 1) + 2 * norm.pdf(y) - np.pi**-0.5
    np.testing.assert_allclose(law.crps(y), expected, rtol=0.01)  # a hundred levels
    low, high = law.interval(0.9)
    np.testing.assert_allclose([low[0], high[0]], norm.ppf([0.05, 0.95]))


def constant(kept):
    """A peer that predicts the mean of its targets plus what its setting says."""
    seen = []

    def fit(settings, task):
        seen.append((settings, len(task.rows[0])))
        mean = task.rows[1].mean() + settings.get("off", 2.0)
        return peers.Fitted(lambda new: np.full(len(new), mean), kept)

    return peers.Peer(fit, lambda rng: {"off": rng.normal()}), seen


@pytest.mark.parametrize("n", [60, peers.FOLDS_BELOW])
def test_search_takes_the_best_setting_on_held_out_rows(n):
    peer, seen = constant({"trees": 3})
    y = 1e-4 * RNG.normal(size=n)
    setting = peers.search(peer, np.zeros((n, 1)), y, seconds=10)
    tried = list(dict.fromkeys(s.get("off", 2.0) for s, _ in seen))
    assert tried[0] == 2.0  # the defaults come first
    assert len(tried) == setting["settings_tried"] == peers.SETTINGS
    assert setting["off"] == min(tried, key=abs)
    assert setting["trees"] == 3
    folds = 1 if n == peers.FOLDS_BELOW else peers.FOLDS
    assert len(seen) == folds * peers.SETTINGS
    assert {rows for _, rows in seen} == {n - n // 5}
    assert setting["deviation"] == pytest.approx(abs(setting["off"]), rel=0.01)
    law = peers.fit(peer, setting, np.zeros((n, 1)), y)(np.zeros((2, 1)))
    np.testing.assert_allclose(law.std, setting["deviation"])
    np.testing.assert_allclose(law.mean, y.mean() + setting["off"])


def test_search_ends_with_its_seconds_and_passes_over_what_fails():
    def fit(settings, task):
        if settings.get("fails"):
            raise ValueError("singular")
        start = time.process_time()
        while time.process_time() < start + 0.05:
            pass
        return peers.Fitted(lambda new: np.zeros(len(new)))

    peer = peers.Peer(fit, lambda rng: {"fails": bool(rng.random() < 0.5)})
    y = RNG.normal(size=peers.FOLDS_BELOW)
    setting = peers.search(peer, np.zeros((len(y), 1)), y, seconds=0.12)
    assert setting["settings_tried"] < 15
    assert setting["search_seconds"] < 1
    broken = peers.Peer(lambda *_: 1 / 0, peer.draw)
    with pytest.raises(RuntimeError, match="division by zero"):
        peers.search(broken, np.zeros((len(y), 1)), y, seconds=0.1)


def test_slow_models_are_tuned_on_some_rows_and_judged_on_all():
    peer, seen = constant({"trees": 3})
    n = peers.FOLDS_BELOW * 2
    y = RNG.normal(size=n)
    peers.search(peer._replace(search_rows=n // 2), np.zeros((n, 1)), y)
    assert {rows for _, rows in seen[:-1]} == {2 * n // 5}
    assert seen[-1][1] == n - n // 5


def test_every_class_is_left_when_a_fifth_is_held_out():
    y = np.repeat([0, 1, 2, 3], [1, 2, 5, 92])
    folds = peers.folds(len(y), y)
    assert folds[0] == -1
    for i in range(peers.FOLDS):
        assert set(y[folds != i]) == {0, 1, 2, 3}
    assert np.bincount(folds[y == 3]).tolist() == pytest.approx([18] * 5, abs=1)
    some = peers._some(20, y, len(y))
    assert np.bincount(y[some]).tolist() == [1, 2, 3, 19]


@pytest.mark.parametrize("name", ["catboost", "lightgbm", "xgboost"])
def test_boosting_stops_by_the_clock(name):
    peer = present(peers.REGRESSORS[name])
    X, y = curve(300)
    task = peers.Task((X[:240], y[:240]), (X[240:], y[240:]), until=0.0)
    kept = peer.fit({"learning_rate": 0.01}, task).kept
    assert max(kept.get("n_estimators", 0), kept.get("iterations", 0)) < 20


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setitem(peers.importlib.sys.modules, "ngboost", None)
    with pytest.raises(ImportError, match=r'ngboost is needed: pip install "resnet-gp\[peers\]"'):
        peers.optional("ngboost")
