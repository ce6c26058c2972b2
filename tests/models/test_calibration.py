import numpy as np
import pytest
import torch

from resnet_gp.models.calibration import BOUNDS, Link, linked, log_loss, smoothed_labels

GENERATOR = torch.Generator().manual_seed(0)


def scores_of(n, classes=3):
    """Scores 2 p - 1 of random probabilities p."""
    p = torch.distributions.Dirichlet(torch.ones(classes, dtype=torch.float64)).sample((n,))
    return 2 * p - 1


def drawn(logits):
    return torch.multinomial(torch.softmax(logits, 1), 1, generator=GENERATOR)[:, 0]


@pytest.mark.parametrize("link", [Link(1.0, 0.05), Link(3.0, 0.5), Link(0.5, 0.2)])
def test_finds_the_link_that_made_the_labels(link):
    torch.manual_seed(0)
    scores = scores_of(40_000)
    labels = drawn(link.logits(scores))
    found = Link.fit(scores, labels)
    p, q = (torch.softmax(one.logits(scores), 1) for one in (link, found))
    assert (p - q).abs().max() < 0.03
    assert log_loss(found.logits(scores), labels) <= log_loss(link.logits(scores), labels) + 1e-4


def test_a_small_floor_takes_scores_as_probabilities():
    torch.manual_seed(1)
    scores = scores_of(100)
    p = torch.softmax(Link(1.0, 1e-4).logits(scores), 1)
    torch.testing.assert_close(p, (1 + scores) / 2, atol=1e-3, rtol=0)


def test_a_large_floor_is_proportional():
    scores = torch.linspace(-1, 1, 5, dtype=torch.float64)[:, None] * torch.tensor([[1.0, -1.0]])
    floor = 1e4
    logits = Link(2 * floor * 2 * np.log(2), floor).logits(scores)
    torch.testing.assert_close(logits[:, 0] - logits[:, 1], 2 * scores[:, 0], atol=1e-3, rtol=0)


def test_probabilities_are_positive_however_low_a_score():
    scores = torch.tensor([[-3.0, 3.0]], dtype=torch.float64, requires_grad=True)
    logits = linked(scores, 1.0, 1e-3)
    torch.testing.assert_close(logits[0, 0].item(), -1000.0)
    (gradient,) = torch.autograd.grad(logits[0, 0], scores)
    assert gradient[0, 0] == pytest.approx(500)
    assert torch.autograd.gradcheck(lambda s: linked(s, 2.0, 0.3), scores_of(4).requires_grad_())


def test_certainty_is_bounded_by_the_number_of_samples():
    labels = torch.arange(40) % 2
    scores = 2 * torch.nn.functional.one_hot(labels, 2).double() - 1
    confidence = torch.softmax(Link.fit(scores, labels).logits(scores), 1).max()
    assert 0.95 < confidence.item() < 1 - 0.5 / 41 + 1e-3


def test_two_labels_make_no_certainty():
    """Priors keep the link of almost no data moderate."""
    labels, scores = torch.tensor([0, 1]), torch.tensor([[-1e-2, 1e-2], [1e-2, -1e-2]]).double()
    for order in (labels, labels.flip(0)):
        link = Link.fit(scores, order)
        assert torch.softmax(link.logits(scores), 1).max() < 0.7


def test_parameters_stay_within_their_bounds():
    scores = torch.tensor([[1.0, -1.0]] * 50, dtype=torch.float64)
    link = Link.fit(scores, torch.arange(50) % 2, 0.0)
    for value, (low, high) in zip(link, BOUNDS, strict=True):
        assert np.exp(low) <= value <= np.exp(high)


def test_smoothed_labels_are_distributions():
    rows = smoothed_labels(torch.tensor([0, 2]), 3, 0.5)
    np.testing.assert_allclose(rows.sum(1), 1)
    assert (rows > 0).all()
