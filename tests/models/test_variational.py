import pytest
import torch
from gpytorch.kernels import RBFKernel

from resnet_gp import ResNetLimitKernel
from resnet_gp.models import SparseRegression
from resnet_gp.models.fitting import get_raw, set_raw
from resnet_gp.models.variational import VariationalRegression, fit_variational_regression


def make(outputs=None, n=60):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    y = torch.sin(2 * x[:, 0]) + 0.1 * torch.randn(n, dtype=torch.float64, generator=generator)
    y = y if outputs is None else torch.stack([y, -2 * y], 1)
    kernel = ResNetLimitKernel(input_bias=True, growth=False, contrast=True).double()
    points = x[:15]
    sparse = SparseRegression(x, y, kernel, points)
    model = VariationalRegression(points.clone(), kernel, outputs)
    assert get_raw(model.prior).shape == get_raw(sparse).shape
    return x, y, sparse, model


@pytest.mark.parametrize("outputs", [None, 2])
def test_whole_natural_steps_reach_the_collapsed_bound(outputs, monkeypatch):
    """With a Gaussian likelihood the best law at the inducing points is known."""
    monkeypatch.setattr("resnet_gp.models.variational._NATURAL_RATE", 1.0)
    x, y, sparse, model = make(outputs)
    model.prior.requires_grad_(False)
    fit_variational_regression(
        model, x, y, steps=6, batch_size=10**6, generator=torch.Generator().manual_seed(0)
    )
    bound = sparse.log_marginal_likelihood().item()
    monkeypatch.setattr("resnet_gp.models.variational._PREDICTION_ROWS", 17)
    assert model.whole_bound(x, y) == pytest.approx(bound, rel=2e-3)
    mean, variance = model.posterior().mean_and_variance(x[:30])
    expected_mean, expected = sparse.posterior().mean_and_variance(x[:30])
    torch.testing.assert_close(mean, expected_mean, rtol=1e-2, atol=1e-2)
    wide = expected if outputs is None else expected[:, None].expand(-1, outputs)
    torch.testing.assert_close(variance, wide, rtol=3e-2, atol=1e-3)


def test_minibatches_estimate_the_bound_without_bias():
    x, y, _, model = make(n=40)
    model.posterior().mean(x)  # starts the law at the prior
    whole = model.whole_bound(x, y)
    parts = [float(model.bound(x[i : i + 8], y[i : i + 8], 40).detach()) for i in range(0, 40, 8)]
    assert sum(parts) / 5 == pytest.approx(whole, rel=1e-10)


def test_the_bound_rises_and_hyperparameters_are_learned():
    x, y, _, model = make()
    before = get_raw(model.prior)
    values, interrupted = fit_variational_regression(
        model, x, y, steps=60, batch_size=30, generator=torch.Generator().manual_seed(0)
    )
    assert not interrupted
    assert sum(values[-10:]) > sum(values[5:15])
    assert abs(get_raw(model.prior) - before).max() > 0.02


def test_an_interruption_keeps_the_state():
    x, y, _, model = make()
    seen = []

    def watch(value):
        seen.append(value)
        if len(seen) == 3:
            raise KeyboardInterrupt

    values, interrupted = fit_variational_regression(
        model, x, y, steps=150, batch_size=30, generator=torch.Generator(), watch=watch
    )
    assert interrupted
    assert len(values) == 3
    assert torch.isfinite(model.posterior().mean(x)).all()


def test_a_bound_that_is_no_number_is_an_error():
    x, y, _, model = make()
    with pytest.raises(FloatingPointError, match="not finite"):
        fit_variational_regression(
            model, x, y * float("nan"), steps=1, batch_size=30, generator=torch.Generator()
        )


def test_covariances_have_the_variances_on_their_diagonal():
    for outputs in (None, 2):
        x, _, sparse, model = make(outputs)
        set_raw(model.prior, get_raw(sparse))
        posterior = model.posterior()
        _, covariance = posterior.mean_and_covariance(x[:5])
        _, variance = posterior.mean_and_variance(x[:5])
        diagonal = covariance.diagonal().mT if outputs else covariance.diagonal()
        torch.testing.assert_close(diagonal, variance, rtol=1e-4, atol=1e-4)


def test_any_kernel():
    x, y, *_ = make()
    model = VariationalRegression(x[:10].clone(), RBFKernel().double())
    fit_variational_regression(
        model, x, y, steps=40, batch_size=60, generator=torch.Generator().manual_seed(0)
    )
    assert (model.posterior().mean(x) - y).square().mean() < y.var()
