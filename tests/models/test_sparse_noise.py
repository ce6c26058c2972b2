import math

import pytest
import torch
from models.test_sparse import N, data, extra_variance, sample_weight, sparse

from resnet_gp.models import sparse_noise
from resnet_gp.models.sparse_noise import leave_one_out_noise

WAYS = {
    "alone": {},
    "extra": {"extra": 0.05 * extra_variance()},
    "weight": {"weight": sample_weight()},
    "both": {"extra": 0.05 * extra_variance(), "weight": sample_weight()},
}


def chosen_noise(model, x, y, of_rows):
    names = {"extra": "extra_variance", "weight": "sample_weight"}
    named = {names[name]: values for name, values in of_rows.items()}
    return leave_one_out_noise(model, x, y, **named)


def noise_of(i, noise, extra=None, weight=None):
    """Of one row."""
    total = noise + (0 if extra is None else extra[i])
    return total if weight is None else total / weight[i]


def held_out_density(x, y, noise, of_rows):
    """By N models, each of all rows but one, whose inducing points are those of all."""
    total, points = 0.0, x[:9]
    for i in range(N):
        rest = torch.arange(N) != i
        others = {name: values[rest] for name, values in of_rows.items()}
        model = sparse(x[rest], y[rest], points, **others)
        model.likelihood.noise = noise
        mean, variance = model.posterior().mean_and_variance(x[i : i + 1])
        law = torch.distributions.Normal(
            mean[0], (variance[0] + noise_of(i, noise, **of_rows)).sqrt()
        )
        total += law.log_prob(y[i]).sum().item()
    return total


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("of_rows", WAYS.values(), ids=WAYS)
def test_loss_is_that_of_models_without_the_row(outputs, of_rows, monkeypatch):
    x, y = data(outputs)
    seen, loss = [], sparse_noise._loss

    def recorded(sums, v, left, targets, noise):
        value = loss(sums, v, left, targets, noise)
        shared = noise[0] * of_rows.get("weight", [1])[0] - of_rows.get("extra", [0])[0]
        seen.append((float(shared), float(value)))
        return value

    monkeypatch.setattr(sparse_noise, "_loss", recorded)
    chosen_noise(sparse(x, y, **of_rows), x, y, of_rows)
    for noise, value in seen[:2]:
        expected = -held_out_density(x, y, noise, of_rows) / y.numel() - math.log(2 * math.pi) / 2
        assert value == pytest.approx(expected, rel=1e-6)  # noises down to 1e-5 of the signal


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("of_rows", WAYS.values(), ids=WAYS)
def test_no_other_noise_predicts_held_out_rows_better(outputs, of_rows):
    x, y = data(outputs)
    model = sparse(x, y, **of_rows)
    found = chosen_noise(model, x, y, of_rows)
    best = held_out_density(x, y, found, of_rows)
    assert model.likelihood.noise.item() == pytest.approx(0.03)  # nothing is changed
    for factor in (0.1, 0.5, 0.97, 1.03, 2.0):
        if 1e-8 < factor * found < 4 * 0.03:
            assert held_out_density(x, y, factor * found, of_rows) <= best + 1e-6


def test_stays_between_its_bounds():
    x, y = data()
    y = y + 10 * torch.randn(N, dtype=y.dtype, generator=torch.Generator().manual_seed(1))
    assert leave_one_out_noise(sparse(x, y), x, y) == pytest.approx(4 * 0.03, rel=0.1)
    smooth = torch.full_like(y, 0.5)
    assert leave_one_out_noise(sparse(x, smooth, points=x), x, smooth, least=1e-3) < 2e-3
    above = leave_one_out_noise(sparse(x, smooth), x, smooth, least=1.0)
    assert above == pytest.approx(4 * 0.03)  # the upper bound wins
