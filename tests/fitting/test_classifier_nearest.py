"""How the classifier of nearest rows judges models and chooses the number of neighbours."""

import numpy as np
import pytest
import torch

from resnet_gp.fitting import classifier_nearest
from resnet_gp.fitting.classifier_nearest import NearestFit, _HeldOut
from resnet_gp.fitting.classifier_search import Problem
from resnet_gp.kernels import ResNetLimitKernel
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
