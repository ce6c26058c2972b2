import math
import pickle

import gpytorch
import pytest
import torch
from gpytorch.kernels import RBFKernel, ScaleKernel
from scipy.stats import kstest

from resnet_gp import ResNetLimitKernel
from resnet_gp.models import (
    ExactRegression,
    PosteriorPaths,
    condition,
    draw_posterior,
    draw_prior,
)
from resnet_gp.models.botorch import get_covar_module_with_resnet_prior

D = 3


def normal(*shape, seed=0, dtype=torch.float64):
    return torch.randn(*shape, dtype=dtype, generator=torch.Generator().manual_seed(seed))


def generator(seed=0):
    return torch.Generator().manual_seed(seed)


def limit_kernel(activation="relu", weight_variance=1.0, **options):
    kernel = ResNetLimitKernel(activation, negative_slope=0.2, ard_num_dims=D, **options).double()
    kernel.weight_variance = weight_variance
    kernel.lengthscale = torch.tensor([0.5, 1.0, 2.0])
    return kernel


def scaled_kernel(weight_variance=2.0):
    kernel = ScaleKernel(limit_kernel(weight_variance=weight_variance, input_bias=True)).double()
    kernel.outputscale = 1.7
    return kernel


CONFIGURATIONS = [
    limit_kernel(),
    limit_kernel("leaky_relu", 5.0, input_bias=True),
    limit_kernel("abs", 3.0, input_bias=True),
    limit_kernel(weight_variance=1000.0, input_bias=True, variance="no_growth"),
    limit_kernel(weight_variance=1e-3),
    limit_kernel(weight_variance=4.0, input_bias=True, variance="unit"),
    scaled_kernel(),
    get_covar_module_with_resnet_prior(ard_num_dims=D).double(),
]


def exact(kernel, x):
    return kernel(x).to_dense().detach()


def z_of_covariance(values, mean, covariance):
    """z-scores of second moments about a known mean; ``values`` is ``paths x n``."""
    centred = values - mean
    products = centred[:, :, None] * centred[:, None]
    # For normal variables var(f_i f_j) = k_ii k_jj + k_ij^2.
    variance = torch.outer(covariance.diagonal(), covariance.diagonal()) + covariance.square()
    return (products.mean(0) - covariance) / (variance / len(values)).sqrt()


@pytest.fixture
def model():
    x = normal(25, D)
    model = ExactRegression(x, torch.sin(x[:, 0]) + 1, limit_kernel(input_bias=True))
    model.mean_module = gpytorch.means.ConstantMean().double()
    model.mean_module.constant = 0.7
    model.covar_module.outputscale = 1.3
    model.likelihood.noise = 0.1
    return model


@pytest.mark.parametrize("kernel", CONFIGURATIONS, ids=range(len(CONFIGURATIONS)))
class TestPriorPaths:
    def test_mean_and_covariance_over_paths(self, kernel):
        x = normal(4, D)
        paths = draw_prior(kernel, D, 8_000, num_features=512, generator=generator(1))
        values = paths(x)
        covariance = paths.covariance(x)
        z_mean = values.mean(0) / (covariance.diagonal() / len(values)).sqrt()
        assert z_mean.abs().max() < 4
        assert z_of_covariance(values, 0, covariance).abs().max() < 4

    def test_covariance_is_unbiased_over_frequencies(self, kernel):
        x = normal(4, D)
        draws = torch.stack(
            [
                draw_prior(kernel, D, num_features=1024, generator=generator(seed)).covariance(x)
                for seed in range(60)
            ]
        )
        target = exact(kernel, x)
        # The mixture's own error, 1.5e-6 of the range of c_T, is tested in test_mixture.
        bias = 3e-6 * target.diagonal().max()
        error = draws.std(0) / math.sqrt(len(draws))
        z = ((draws.mean(0) - target).abs() - bias).clamp(min=0) / error
        assert z.max() < 4

    def test_states_its_error(self, kernel):
        paths = draw_prior(kernel, D, num_features=256, generator=generator(2))
        stated = [paths.covariance_error(normal(100, D, seed=s)) for s in range(8)]
        rms = torch.tensor([error.rms for error in stated])
        errors = torch.tensor([error.standard_error for error in stated])
        # Independent reference points agree within the errors stated.
        assert (((rms - rms.mean()) / errors).square().sum()).item() < 29.9  # p < 1e-4, 7 d.o.f.
        x = normal(100, D, seed=0)
        target = exact(kernel, x)
        scale = target.diagonal().sqrt()
        relative = (paths.covariance(x) - target) / torch.outer(scale, scale)
        assert relative.square().mean().sqrt().item() == pytest.approx(stated[0].rms, rel=1e-6)
        assert relative.abs().max().item() == pytest.approx(stated[0].largest, rel=1e-6)

    def test_error_falls_with_the_number_of_features(self, kernel):
        def error(features):
            paths = draw_prior(kernel, D, num_features=features, generator=generator(3))
            return paths.covariance_error(normal(100, D)).rms

        assert error(4096) < error(64) / 4  # 1 / 8 for independent frequencies

    def test_gradient(self, kernel):
        paths = draw_prior(kernel, D, 2, num_features=64, generator=generator(4))
        x = normal(3, D, seed=1).requires_grad_()
        assert torch.autograd.gradcheck(paths, x)


def test_paths_are_gaussian():
    paths = draw_prior(scaled_kernel(), D, 5000, num_features=64, generator=generator(5))
    x = normal(2, D)
    contrast = paths(x) @ torch.tensor([1.0, -0.6], dtype=torch.float64)
    variance = torch.tensor([1.0, -0.6]).double()
    variance = variance @ paths.covariance(x) @ variance
    assert kstest((contrast / variance.sqrt()).numpy(), "norm").pvalue > 1e-4


def test_gradients_have_the_variance_of_the_kernels():
    kernel = scaled_kernel(5.0)
    x, direction = normal(D), normal(D, seed=1)
    along, across = (torch.zeros((), dtype=torch.float64, requires_grad=True) for _ in range(2))
    covariance = kernel((x + along * direction)[None], (x + across * direction)[None]).to_dense()
    (first,) = torch.autograd.grad(covariance.sum(), along, create_graph=True)
    expected = torch.autograd.grad(first, across)[0].item()
    found = torch.tensor([variance_of_slope(kernel, x, direction, seed) for seed in range(40)])
    z = (found.mean() - expected) / (found.std() / math.sqrt(len(found)))
    assert abs(z.item()) < 4


def variance_of_slope(kernel, x, direction, seed):
    paths = draw_prior(kernel, D, num_features=128, generator=generator(seed))
    _, slope = torch.autograd.functional.jvp(paths._features, x[None], direction[None])
    return slope.square().sum().item()


def test_shapes_and_active_dims():
    kernel = ResNetLimitKernel(active_dims=(2, 0), input_bias=True).double()
    kernel = ScaleKernel(kernel).double()
    paths = draw_prior(kernel, 4, 5, generator=generator())
    x = normal(6, 2, 7, 4)
    values = paths(x)
    assert values.shape == (5, 6, 2, 7)
    torch.testing.assert_close(values[:, 3, 1], paths(x[3, 1]))
    unused = x.clone()
    unused[..., [1, 3]] = 0
    assert torch.equal(paths(unused), values)
    assert paths.covariance(x).shape == (6, 2, 7, 7)
    assert paths.covariance_error(x[0, 0]).rms < 0.02


def test_zero_without_bias_is_zero_with_finite_gradient():
    paths = draw_prior(limit_kernel(), D, 2)
    x = torch.zeros(1, D, dtype=torch.float64, requires_grad=True)
    values = paths(x)
    assert values.tolist() == [[0.0], [0.0]]
    (gradient,) = torch.autograd.grad(values.sum(), x)
    assert bool(gradient.isfinite().all())
    assert paths.covariance_error(torch.cat([x.detach(), normal(9, D)])).rms < 0.02


def test_a_seed_fixes_the_draw_and_pickle_keeps_it():
    x = normal(5, D)
    first, again, other = (
        draw_prior(scaled_kernel(), D, 2, generator=generator(seed)) for seed in (0, 0, 1)
    )
    assert torch.equal(first(x), again(x))
    assert not torch.equal(first(x), other(x))
    assert torch.equal(pickle.loads(pickle.dumps(first))(x), first(x))
    torch.manual_seed(0)
    unseeded = draw_prior(scaled_kernel(), D)(x)
    assert not torch.equal(unseeded, draw_prior(scaled_kernel(), D)(x))
    torch.manual_seed(0)
    assert torch.equal(unseeded, draw_prior(scaled_kernel(), D)(x))


def test_paths_keep_the_kernel_that_they_were_drawn_from():
    kernel = scaled_kernel()
    x = normal(5, D)
    paths = draw_prior(kernel, D, generator=generator())
    before = paths(x)
    kernel.outputscale = 100.0
    kernel.base_kernel.lengthscale = 3.0
    assert torch.equal(paths(x), before)
    assert not before.requires_grad


@pytest.mark.parametrize("weight_variance", [1.0, 100.0])
def test_float32_is_float64_rounded(weight_variance):
    kernel = scaled_kernel(weight_variance)
    x = normal(50, D)
    wide = draw_prior(kernel, D, 3, generator=generator())
    narrow = draw_prior(kernel.float(), D, 3, generator=generator())
    values = narrow(x.float())
    assert values.dtype == torch.float32
    deviation = wide.covariance(x).diagonal().sqrt()
    assert ((values.double() - wide(x)) / deviation).abs().max() < 1e-3
    kernel.double()


@pytest.mark.parametrize(
    ("error", "match", "call"),
    [
        (TypeError, "kernel", lambda: draw_prior(RBFKernel(), D)),
        (TypeError, "kernel", lambda: draw_prior(ScaleKernel(RBFKernel()), D)),
        (TypeError, "kernel", lambda: draw_prior(limit_kernel() + limit_kernel(), D)),
        (
            ValueError,
            "batch",
            lambda: draw_prior(ResNetLimitKernel(batch_shape=torch.Size([2])), D),
        ),
        (ValueError, "num_dims", lambda: draw_prior(limit_kernel(), D + 1)),
        (ValueError, "num_dims", lambda: draw_prior(ResNetLimitKernel(active_dims=(3,)), D)),
        (ValueError, "num_dims", lambda: draw_prior(ResNetLimitKernel(), 0)),
        (ValueError, "num_paths", lambda: draw_prior(limit_kernel(), D, 0)),
        (ValueError, "num_features", lambda: draw_prior(limit_kernel(), D, num_features=7)),
        (ValueError, "overflow", lambda: draw_prior(limit_kernel(weight_variance=2000.0), D)),
        (TypeError, "dtype", lambda: draw_prior(limit_kernel(), D)(torch.zeros(2, D))),
        (ValueError, "shape", lambda: draw_prior(limit_kernel(), D)(normal(2, D + 1))),
        (ValueError, "shape", lambda: draw_prior(limit_kernel(), D)(normal(D))),
    ],
)
def test_refusals(error, match, call):
    with pytest.raises(error, match=match):
        call()


class TestPosteriorPaths:
    def exact(self, model, x):
        model.eval()
        with torch.no_grad(), gpytorch.settings.fast_computations(False, False, False):
            posterior = model(x)
            return posterior.mean, posterior.covariance_matrix

    def test_moments_over_paths(self, model):
        x = torch.cat([normal(3, D, seed=1), model.train_inputs[0][:1]])
        paths = draw_posterior(model, 8_000, num_features=1024, generator=generator())
        values = paths(x)
        mean, _ = self.exact(model, x)
        covariance = paths.covariance(x)
        # The mean is that of the exact posterior: only the prior paths are approximate.
        z_mean = (values.mean(0) - mean) / (covariance.diagonal() / len(values)).sqrt()
        assert z_mean.abs().max() < 4
        assert z_of_covariance(values, mean, covariance).abs().max() < 4

    def test_covariance_is_unbiased_over_frequencies(self, model):
        x = normal(4, D, seed=1)
        draws = torch.stack(
            [
                draw_posterior(model, num_features=128, generator=generator(s)).covariance(x)
                for s in range(60)
            ]
        )
        _, target = self.exact(model, x)
        z = (draws.mean(0) - target) / (draws.std(0) / math.sqrt(len(draws)))
        assert z.abs().max() < 4

    def test_states_its_error(self, model):
        x = normal(60, D, seed=1)
        paths = draw_posterior(model, num_features=256, generator=generator())
        _, target = self.exact(model, x)
        scale = target.diagonal().sqrt()
        relative = (paths.covariance(x) - target) / torch.outer(scale, scale)
        stated = paths.covariance_error(x)
        assert stated.rms == pytest.approx(relative.square().mean().sqrt().item(), rel=1e-5)
        assert 0 < stated.standard_error < stated.rms < stated.largest
        many = draw_posterior(model, num_features=8192, generator=generator())
        assert many.covariance_error(x).rms < stated.rms / 3

    def test_interpolates_without_noise(self, model):
        x, y = model.train_inputs[0], model.train_targets
        paths = condition(draw_prior(model.covar_module, D, 3), x, y, 0.0)
        assert isinstance(paths, PosteriorPaths)
        torch.testing.assert_close(paths(x), y.expand(3, -1), rtol=0, atol=1e-8)

    def test_one_noise_for_each_target(self, model):
        x, y = model.train_inputs[0], model.train_targets
        prior = draw_prior(model.covar_module, D, 4000, generator=generator())
        noise = torch.linspace(0.01, 2, len(y), dtype=torch.float64)
        paths = condition(prior, x, y, noise, generator=generator(1))
        covariance = exact(model.covar_module, x)
        expected = covariance @ torch.linalg.solve(covariance + noise.diag(), y)
        variance = paths.covariance(x).diagonal()
        z = (paths(x).mean(0) - expected) / (variance / paths.num_paths).sqrt()
        assert z.abs().max() < 4

    def test_known_noise_and_weights_of_rows(self, model):
        x, y = model.train_inputs[0], model.train_targets
        extra, weight = torch.zeros_like(y), torch.ones_like(y)
        extra[::2], weight[1::2] = 2.0, 0.2
        own = ExactRegression(x, y, ResNetLimitKernel(input_bias=True).double(), extra, weight)
        points = normal(4, D, seed=1)
        paths = draw_posterior(own, 4000, generator=generator())
        expected, variance = own.posterior().mean_and_variance(points)
        values = paths(points)
        z = (values.mean(0) - expected) / (variance / paths.num_paths).sqrt()
        assert z.abs().max() < 4
        z = (values.var(0) / variance - 1) / math.sqrt(2 / paths.num_paths)
        assert z.abs().max() < 5

    def test_gradient_and_batches(self, model):
        paths = draw_posterior(model, 2, num_features=64, generator=generator())
        x = normal(3, 2, D, seed=1).requires_grad_()
        assert paths(x).shape == (2, 3, 2)
        torch.testing.assert_close(paths(x)[:, 1], paths(x[1]))
        assert torch.autograd.gradcheck(paths, x)

    def test_a_seed_fixes_the_draw_and_pickle_keeps_it(self, model):
        x = normal(5, D)
        first, again = (draw_posterior(model, 2, generator=generator()) for _ in range(2))
        assert torch.equal(first(x), again(x))
        assert torch.equal(pickle.loads(pickle.dumps(first))(x), first(x))

    def test_refusals(self, model):
        prior = draw_prior(model.covar_module, D)
        x, y = model.train_inputs[0], model.train_targets
        with pytest.raises(ValueError, match="train_y"):
            condition(prior, x, y[:-1], 0.1)
        with pytest.raises(ValueError, match="noise"):
            condition(prior, x, y, torch.ones(3))
        with pytest.raises(ValueError, match="noise"):
            condition(prior, x, y, -0.1)
        with pytest.raises(torch.linalg.LinAlgError):
            condition(prior, torch.cat([x, x]), torch.cat([y, y]), 0.0)
        model.input_transform = torch.nn.Identity()
        with pytest.raises(ValueError, match="input_transform"):
            draw_posterior(model)
        del model.input_transform
        model.likelihood = gpytorch.likelihoods.StudentTLikelihood()
        with pytest.raises(TypeError, match="likelihood"):
            draw_posterior(model)
