import numpy as np
import pytest
import torch

from resnet_gp.models.calibration import fit_slope, smoothed_labels


def test_finds_the_slope_that_made_the_labels():
    generator = torch.Generator().manual_seed(0)
    scores = torch.randn(20_000, 3, dtype=torch.float64, generator=generator)
    labels = torch.multinomial(torch.softmax(2.5 * scores, 1), 1, generator=generator)[:, 0]
    assert fit_slope(scores, labels) == pytest.approx(2.5, rel=0.05)


def test_certainty_is_bounded_by_the_number_of_samples():
    labels = torch.arange(40) % 2
    scores = torch.nn.functional.one_hot(labels, 2).double()
    confidence = torch.softmax(fit_slope(scores, labels) * scores, 1).max()
    assert confidence.item() == pytest.approx(1 - 0.5 / 41, rel=1e-3)


def test_smoothed_labels_are_distributions():
    rows = smoothed_labels(torch.tensor([0, 2]), 3, 0.5)
    np.testing.assert_allclose(rows.sum(1), 1)
    assert (rows > 0).all()
