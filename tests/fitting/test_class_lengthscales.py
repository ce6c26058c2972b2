import numpy as np
import pytest
import torch

from resnet_gp import ResNetGPClassifier
from resnet_gp.fitting.class_lengthscales import learned_lengthscale
from resnet_gp.flow.domain import DomainError


def signs(of):
    return torch.where(of > 0, 1.0, -1.0).double()[:, None]


def inputs(n=150):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_inputs_that_matter_have_short_lengthscales():
    x = inputs() * torch.tensor([1.0, 5.0, 0.2])
    found = torch.tensor(learned_lengthscale(x, signs((x[:, 1] / 2).sin())), dtype=torch.float64)
    relative = found / x.std(0)
    assert relative[1] < 0.3 * min(relative[0], relative[2])
    assert (x / found).square().mean() == pytest.approx(1)


def test_rows_lack_a_class():
    x = inputs(60)
    targets = torch.cat([signs(x[:, 0]), -torch.ones(60, 1).double()], 1)
    assert learned_lengthscale(x, targets) == learned_lengthscale(x, targets[:, :1])


@pytest.mark.parametrize(("rows", "size", "slope"), [(60, 0, 1), (60, 1, 0), (49, 1, 1)])
def test_nothing_to_learn(rows, size, slope):
    x = inputs(rows)
    with pytest.raises(DomainError, match="vary"):
        learned_lengthscale(size * x, slope * signs(x[:, 0]) + 1 - slope)


def test_a_classifier_of_constant_inputs_predicts_frequencies():
    y = np.arange(60) % 3 == 0
    model = ResNetGPClassifier("limit").fit(np.ones((60, 2)), y)
    assert not hasattr(model, "lengthscale_")
    assert model.predict_proba(np.ones((1, 2)))[0, 1] == pytest.approx(1 / 3, abs=0.1)


def test_balanced_classes_without_inputs_are_even():
    model = ResNetGPClassifier("limit").fit(np.ones((60, 2)), np.arange(60) % 2)
    np.testing.assert_allclose(model.predict_proba(np.ones((1, 2))), 0.5, atol=0.05)
