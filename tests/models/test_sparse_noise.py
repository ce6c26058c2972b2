import math

import pytest
import torch
from models.test_sparse import N, data, extra_variance, sparse

from resnet_gp.models import sparse_noise
from resnet_gp.models.sparse_noise import leave_one_out_noise


def held_out_density(x, y, extra, noise):
    """By N models, each of all rows but one, whose inducing points are those of all."""
    total, points = 0.0, x[:9]
    for i in range(N):
        rest = torch.arange(N) != i
        model = sparse(x[rest], y[rest], points, None if extra is None else extra[rest])
        model.likelihood.noise = noise
        mean, variance = model.posterior().mean_and_variance(x[i : i + 1])
        own = 0.0 if extra is None else extra[i]
        law = torch.distributions.Normal(mean[0], (variance[0] + noise + own).sqrt())
        total += law.log_prob(y[i]).sum().item()
    return total


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("extra", [None, 0.05 * extra_variance()], ids=["alone", "extra"])
def test_loss_is_that_of_models_without_the_row(outputs, extra, monkeypatch):
    x, y = data(outputs)
    seen, loss = [], sparse_noise._loss

    def recorded(sums, v, left, targets, noise):
        value = loss(sums, v, left, targets, noise)
        seen.append((float(noise[0] - (0 if extra is None else extra[0])), float(value)))
        return value

    monkeypatch.setattr(sparse_noise, "_loss", recorded)
    leave_one_out_noise(sparse(x, y, extra=extra), x, y, extra)
    for noise, value in seen[:2]:
        expected = -held_out_density(x, y, extra, noise) / y.numel() - math.log(2 * math.pi) / 2
        assert value == pytest.approx(expected, rel=1e-6)  # noises down to 1e-5 of the signal


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("extra", [None, 0.05 * extra_variance()], ids=["alone", "extra"])
def test_no_other_noise_predicts_held_out_rows_better(outputs, extra):
    x, y = data(outputs)
    model = sparse(x, y, extra=extra)
    found = leave_one_out_noise(model, x, y, extra)
    best = held_out_density(x, y, extra, found)
    assert model.likelihood.noise.item() == pytest.approx(0.03)  # nothing is changed
    for factor in (0.1, 0.5, 0.97, 1.03, 2.0):
        if 1e-8 < factor * found < 4 * 0.03:
            assert held_out_density(x, y, extra, factor * found) <= best + 1e-6


def test_stays_between_its_bounds():
    x, y = data()
    y = y + 10 * torch.randn(N, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    assert leave_one_out_noise(sparse(x, y), x, y) == pytest.approx(4 * 0.03, rel=0.1)
    smooth = torch.full_like(y, 0.5)
    assert leave_one_out_noise(sparse(x, smooth, points=x), x, smooth, least=1e-3) < 2e-3
    assert math.isfinite(leave_one_out_noise(sparse(x, smooth), x, smooth, least=1.0))
