"""How the classifier of nearest rows judges models and chooses the number of neighbours."""

import numpy as np
import pytest
import torch

from resnet_gp import ResNetGPClassifier
from resnet_gp.fitting import classifier_nearest
from resnet_gp.fitting.classifier_nearest import NearestFit, _HeldOut, _weights
from resnet_gp.fitting.classifier_search import Problem
from resnet_gp.kernels import ResNetLimitKernel
from resnet_gp.models.calibration import class_scores
from resnet_gp.models.nearest_classification import NearestClassification
from resnet_gp.progress import progress_bar


def problem(n=150, classes=2):
    """The first input decides, with noise; the second has no effect."""
    rng = np.random.default_rng(0)
    x = rng.normal(size=(n, 2))
    edges = np.quantile(x[:, 0], np.arange(1, classes) / classes)
    labels = torch.from_numpy(np.digitize(x[:, 0] + 0.2 * rng.normal(size=n), edges))
    generator, bar = np.random.RandomState(0), progress_bar("", False)
    return Problem(torch.from_numpy(x), labels, [], None, generator, bar)


def model_of(data, k=20):
    offset = data.targets.mean(0)
    kernel = ResNetLimitKernel(input_bias=True, variance="no_growth", contrast=True)
    model = NearestClassification(data.x, data.targets - offset, offset, kernel, k)
    model.likelihood.noise = 0.3
    return model


@pytest.mark.parametrize("classes", [2, 3])
def test_held_out_rows_are_predicted_from_others(classes, monkeypatch):
    """As from a model without them, one by one."""
    monkeypatch.setattr(classifier_nearest, "_CHOICE_ROWS", 4)
    data = problem(60, classes)
    held_out, model = _HeldOut.of(data), model_of(data, 59)
    scores = held_out.scores(held_out.neighbourhoods(model.posterior()))
    assert scores.shape == (4, classes)
    for row, own in zip(held_out.rows, scores, strict=True):
        others = np.delete(np.arange(60), row)
        rest = Problem(data.x[others], data.labels[others], [], None, data.generator, data.bar)
        alone = NearestClassification(
            rest.x, data.targets[others] - model.offset, model.offset,
            model.covar_module.base_kernel, 59,
        )  # fmt: skip
        alone.likelihood.noise = 0.3
        mean = alone.posterior().mean(data.x[row : row + 1]) + model.offset
        expected = torch.cat([-mean, mean], 1) if classes == 2 else mean
        gaps = own - own.mean(), expected[0] - expected[0].mean()
        torch.testing.assert_close(*gaps, rtol=1e-8, atol=1e-8)


def test_the_loss_is_below_that_of_guessing():
    data = problem()
    assert 0 < _HeldOut.of(data).log_loss(model_of(data).posterior()) < 0.6 * np.log(2)


def test_the_fewest_neighbours_with_nearly_the_least_loss(monkeypatch):
    losses = {20: 0.5, 40: 0.4015, 80: 0.4}
    monkeypatch.setattr(classifier_nearest, "_NEIGHBORS", tuple(losses))
    data = problem()

    class Judge:
        def log_loss(self, posterior):
            return losses[posterior.n_neighbors]

    assert NearestFit(None)._neighbors(model_of(data), Judge()) == 40
    assert NearestFit(33)._neighbors(model_of(data), Judge()) == 33
    assert NearestFit(10**6)._neighbors(model_of(data), Judge()) == 149


def test_shares_follow_what_left_out_rows_say():
    rng = np.random.default_rng(0)
    labels = torch.from_numpy(rng.integers(2, size=400))
    truth = class_scores((2.0 * labels - 1)[:, None].double())
    noises = torch.from_numpy(rng.normal(size=(2, 400, 1)))
    good, alike = (truth + 1.5 * torch.cat([-noise, noise], 1) for noise in noises)
    nothing = torch.zeros_like(truth)
    assert _weights([good], labels).tolist() == [1]
    assert _weights([good, alike], labels).tolist() == [0.5, 0.5]
    assert _weights([good, 0.1 * alike], labels)[1] > 0.5  # as much, at a tenth of the size
    assert _weights([good, truth], labels).tolist() == [0, 1]
    assert _weights([good, nothing], labels)[0] > 0
    first, second, third = _weights([nothing, good, alike], labels).tolist()
    assert first + second + third == pytest.approx(1)
    assert min(second, third) >= 0.25


def test_directions_are_followed(monkeypatch):
    """Labels that change along a diagonal are predicted better from their view."""
    rng = np.random.default_rng(3)
    X = rng.normal(size=(900, 6))
    y = np.sin(2.5 * (X[:, 0] + X[:, 1])) > 0
    options = {"kernel": "limit", "inference": "nearest", "n_neighbors": 30}
    model = ResNetGPClassifier(**options).fit(X[:500], y[:500])
    assert model._posterior.turn.directions.shape == (6, 6)
    assert model.views_[-1] == 1
    assert model.weights_[-1] >= 0.5
    assert model.lengthscale_[-1, 2:].min() > 4 * model.lengthscale_[-1, :2].max()
    monkeypatch.setattr(classifier_nearest, "_turned", lambda *_: None)
    alone = ResNetGPClassifier(**options).fit(X[:500], y[:500])
    assert len(alone.weights_) == 1
    assert model.score(X[500:], y[500:]) > alone.score(X[500:], y[500:])


def test_views_are_averaged(monkeypatch):
    """The mean of the ensemble is that of its members, and the link is fitted to it."""
    monkeypatch.setattr(classifier_nearest, "_CHOICE_ROWS", 60)
    monkeypatch.setattr(classifier_nearest, "_SHARES", (0.5,))
    monkeypatch.setattr(classifier_nearest, "_TURNS", 0)
    rng = np.random.default_rng(1)
    X = np.exp(1.5 * rng.normal(size=(300, 2)))
    y = np.log(X).sum(1) + 0.3 * rng.normal(size=300) > 0
    model = ResNetGPClassifier("limit", inference="nearest", n_neighbors=30).fit(X[:200], y[:200])
    assert model.views_.tolist() == [0, 1]
    assert model.weights_.tolist() == [0.5, 0.5]
    mean, _ = model.latent_mean_and_variance(X[200:])
    ensemble = model._posterior
    alone = [member.mean(model._new_inputs(X[200:])) for member in ensemble.members]
    expected = ensemble.offset + sum(w * m for w, m in zip(model.weights_, alone, strict=True))
    np.testing.assert_allclose(mean, expected[:, 0], rtol=1e-12)
    assert (alone[0] - alone[1]).abs().max() > 0.01
    for view, one in enumerate(np.split(model.lengthscale_, [4], axis=1)):  # of inputs, of scores
        assert np.isfinite(one[view]).all()
        assert np.isnan(one[1 - view]).all()
    assert model.score(X[200:], y[200:]) > 0.85
