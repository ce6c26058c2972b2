import numpy as np
import pytest
import torch

from resnet_gp import ResNetGPClassifier
from resnet_gp.fitting import class_metric
from resnet_gp.fitting.class_metric import learned_turn
from resnet_gp.fitting.inference import sampled_numbers
from resnet_gp.flow.domain import DomainError


def signs(of):
    return torch.where(of > 0, 1.0, -1.0).double()[:, None]


def inputs(n=150):
    return torch.randn(n, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def test_inputs_that_matter_have_short_lengthscales():
    x = inputs(150) * torch.tensor([1.0, 5.0, 0.2])
    turn = learned_turn(x, signs((x[:, 1] / 2).sin()))
    relative = turn.lengthscale(torch.ones(3).double()) / x.std(0)
    assert relative[1] < 0.3 * min(relative[0], relative[2])
    assert (x @ turn.directions).square().mean() == pytest.approx(1)
    assert is_plain(turn)


def is_plain(turn):
    return torch.equal(turn.directions, turn.directions.diag().diag())


@pytest.mark.parametrize(("rows", "most"), [(900, 400), (800, 400), (900, 2)])
def test_directions_lie_across_inputs(rows, most, monkeypatch):
    """Steps along the diagonal are long in the metric, and those across it short."""
    monkeypatch.setattr(class_metric, "MOST_TURNED", most)
    x = inputs(rows) * torch.tensor([1.0, 3.0, 1.0])
    turn = learned_turn(x, signs((2 * (x[:, 0] + x[:, 1] / 3)).sin()))
    assert is_plain(turn) == (rows <= 800 or most < 3)
    if not is_plain(turn):
        steps = torch.tensor([[1.0, 3.0, 0.0], [1.0, -3.0, 0.0], [0.0, 0.0, 1.0]]).double()
        along, across, other = (steps @ turn.directions).norm(dim=1)
        assert along > 3 * max(across, other)


@pytest.mark.parametrize("noise", [0, 1e-14])
def test_an_input_that_only_other_rows_have(noise):
    x = torch.cat([inputs(900), torch.full((900, 1), 5.0).double()], 1)
    x[sampled_numbers(900, 400), 3] = noise * x[sampled_numbers(900, 400), 2]
    turn = learned_turn(x, signs((2 * (x[:, 0] + x[:, 1])).sin()))
    assert turn.extended(x).isfinite().all()


def test_directions_that_do_not_help_are_not_taken():
    x = inputs(900)
    assert is_plain(learned_turn(x, signs(torch.randn(900, generator=torch.Generator()))))


def test_rows_lack_a_class():
    x = inputs(60)
    targets = torch.cat([signs(x[:, 0]), -torch.ones(60, 1).double()], 1)
    found = learned_turn(x, targets), learned_turn(x, targets[:, :1])
    assert torch.equal(found[0].directions, found[1].directions)


@pytest.mark.parametrize(("rows", "size", "slope"), [(60, 0, 1), (60, 1, 0), (49, 1, 1)])
def test_nothing_to_learn(rows, size, slope):
    x = inputs(rows)
    with pytest.raises(DomainError, match="vary"):
        learned_turn(size * x, slope * signs(x[:, 0]) + 1 - slope)


def test_a_classifier_of_constant_inputs_predicts_frequencies():
    y = np.arange(60) % 3 == 0
    model = ResNetGPClassifier("limit").fit(np.ones((60, 2)), y)
    assert not hasattr(model, "lengthscale_")
    assert model.predict_proba(np.ones((1, 2)))[0, 1] == pytest.approx(1 / 3, abs=0.1)


def test_balanced_classes_without_inputs_are_even():
    model = ResNetGPClassifier("limit").fit(np.ones((60, 2)), np.arange(60) % 2)
    np.testing.assert_allclose(model.predict_proba(np.ones((1, 2))), 0.5, atol=0.05)
