"""BoTorch from end to end, with the covariance module that is made for it."""

from __future__ import annotations

import math

import pytest
import torch
from gpytorch.mlls import ExactMarginalLogLikelihood
from kernels.properties import dense, points

botorch = pytest.importorskip("botorch", reason="botorch is an extra")

from botorch.acquisition import (
    PosteriorMean,
    qKnowledgeGradient,
    qLogExpectedImprovement,
)
from botorch.fit import fit_gpytorch_mll
from botorch.models import SingleTaskGP
from botorch.optim import optimize_acqf
from botorch.optim.utils import sample_all_priors
from botorch.sampling import SobolQMCNormalSampler
from botorch.utils.sampling import draw_sobol_samples

from resnet_gp import ResNetLimitKernel
from resnet_gp.kernels.centred_kernel import CentredKernel
from resnet_gp.models.botorch import SUBSET_BATCH_DICT, get_covar_module_with_resnet_prior

BOUNDS = torch.tensor([[0.0, 0.0], [1.0, 1.0]], dtype=torch.float64)


def branin(x):
    """Branin's function on the unit square."""
    a, b = 15 * x[..., 0] - 5, 15 * x[..., 1]
    bowl = (b - 5.1 / (4 * math.pi**2) * a**2 + 5 / math.pi * a - 6) ** 2
    return bowl + 10 * (1 - 1 / (8 * math.pi)) * torch.cos(a) + 10


def design(n, seed=0):
    return draw_sobol_samples(BOUNDS, n, 1, seed=seed).squeeze(1)


def model_of(x, y, fitted=True, seed=0, **options):
    outputs = y.shape[-1]
    batch_shape = torch.Size([outputs]) if outputs > 1 else torch.Size()
    covar_module = get_covar_module_with_resnet_prior(x.shape[-1], batch_shape, **options)
    model = SingleTaskGP(x, y, covar_module=covar_module)
    if fitted:
        torch.manual_seed(seed)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
    return model


@pytest.fixture(scope="module")
def fitted():
    x = design(20)
    return model_of(x, -branin(x)[:, None])


@pytest.fixture(scope="module")
def two_outputs():
    x = design(20)
    y = torch.stack([-branin(x), torch.sin(4 * x[:, 0]) * x[:, 1]], dim=-1)
    model = model_of(x, y)
    model._subset_batch_dict = SUBSET_BATCH_DICT
    return model


def exact_posterior(model, z):
    """Mean and covariance by the textbook, in units of the data, of a model of one output."""
    x, y = model.train_inputs[0], model.train_targets
    noise, prior_mean = model.likelihood.noise.detach(), model.mean_module.constant.detach()
    K = dense(model.covar_module, x) + noise * torch.eye(len(x), dtype=x.dtype)
    cross = dense(model.covar_module, z, x)
    mean = prior_mean + cross @ torch.linalg.solve(K, y - prior_mean)
    covariance = dense(model.covar_module, z) - cross @ torch.linalg.solve(K, cross.mT)
    transform = model.outcome_transform
    scale, shift = transform.stdvs.squeeze(), transform.means.squeeze()
    return shift + scale * mean, scale**2 * covariance


class TestCovarModule:
    def test_is_centred(self):
        x, module = design(10), get_covar_module_with_resnet_prior(2).double()
        plain = ResNetLimitKernel(
            input_bias=True, variance="unit", contrast=True, ard_num_dims=2
        ).double()
        base = module.base_kernel.base_kernel
        plain.lengthscale = base.lengthscale.detach()
        plain.weight_variance = base.weight_variance.detach()
        scale = module.outputscale.detach()
        torch.testing.assert_close(dense(module, x), scale * dense(plain, x - 0.5))

    def test_prior_variance_is_the_same_everywhere(self):
        x, module = design(10), get_covar_module_with_resnet_prior(2).double()
        expected = module.outputscale.detach().expand(10)
        torch.testing.assert_close(dense(module, x).diagonal(), expected)

    def test_fixed_and_free_parameters(self):
        module = get_covar_module_with_resnet_prior(3, torch.Size([2]))
        free = {name.split(".")[-1]: p for name, p in module.named_parameters() if p.requires_grad}
        assert free.keys() == {"raw_outputscale", "raw_lengthscale", "raw_weight_variance"}
        assert free["raw_lengthscale"].shape == (2, 1, 3)
        assert free["raw_outputscale"].shape == (2,)
        base = module.base_kernel.base_kernel
        assert (base.input_bias_variance == 1).all()
        torch.testing.assert_close(base.lengthscale, base.lengthscale_prior.mode.expand(2, 1, 3))

    def test_active_dims(self):
        x = points(6, 4)
        module = get_covar_module_with_resnet_prior(2, active_dims=[3, 1]).double()
        whole = get_covar_module_with_resnet_prior(2).double()
        torch.testing.assert_close(dense(module, x), dense(whole, x[:, [3, 1]]))

    def test_priors_are_sampled_until_they_fit(self, fitted):
        """As fit_gpytorch_mll does when it starts again."""
        model = model_of(design(5), branin(design(5))[:, None], fitted=False)
        base = model.covar_module.base_kernel.base_kernel
        seen = set()
        for seed in range(20):
            torch.manual_seed(seed)
            sample_all_priors(model)
            seen.add(base.weight_variance.item())
            assert 1e-2 <= base.weight_variance.item() <= 1e3
        assert len(seen) == 20

    def test_a_fit_never_scales_below_the_data(self):
        """One peak among little, from a start that is below, as a sample of the prior may be."""
        x = design(14)
        y = torch.exp(-((x - x[3]).square().sum(-1)) / 1e-3)[:, None]
        model = model_of(x, y, fitted=False)
        with torch.no_grad():
            model.covar_module.raw_outputscale.fill_(0.5)
        fit_gpytorch_mll(ExactMarginalLogLikelihood(model.likelihood, model))
        assert model.covar_module.outputscale.item() >= 1

    def test_samples_outside_of_a_constraint_are_drawn_again(self):
        from gpytorch.constraints import GreaterThan
        from gpytorch.priors import LogNormalPrior

        kernel = ResNetLimitKernel(
            lengthscale_prior=LogNormalPrior(0.0, 1.0),
            lengthscale_constraint=GreaterThan(1.0, transform=None, initial_value=2.0),
        )
        model = SingleTaskGP(design(5), branin(design(5))[:, None], covar_module=kernel)
        for seed in range(5):  # half of the samples do not fit
            torch.manual_seed(seed)
            sample_all_priors(model)
            assert kernel.lengthscale.item() > 1

    def test_centred_kernel_with_another_centre(self):
        x = points(5, 2)
        kernel = ResNetLimitKernel(input_bias=True).double()
        centred = CentredKernel(kernel, centre=-1.0)
        torch.testing.assert_close(dense(centred, x), dense(kernel, x + 1))
        with torch.no_grad():
            torch.testing.assert_close(centred(x, diag=True), kernel(x + 1, diag=True))
        assert not centred.is_stationary


class TestPosterior:
    def test_against_the_textbook(self, fitted):
        z = design(15, seed=1)
        with torch.no_grad():
            posterior = fitted.posterior(z)
        mean, covariance = exact_posterior(fitted, z)
        torch.testing.assert_close(posterior.mean.squeeze(-1), mean, rtol=1e-6, atol=1e-6)
        variance = posterior.variance.squeeze(-1)
        scale = fitted.outcome_transform.stdvs.squeeze() ** 2
        torch.testing.assert_close(
            variance / scale, covariance.diagonal() / scale, atol=1e-6, rtol=1e-6
        )

    def test_predicts_about_as_well_as_the_default(self):
        """Branin's function from 30 points, over 3 designs: root mean squared errors."""
        z = design(256, seed=99)
        ours, default = [], []
        for seed in range(3):
            x = design(30, seed=seed)
            y = branin(x)[:, None]
            usual = SingleTaskGP(x, y)
            fit_gpytorch_mll(ExactMarginalLogLikelihood(usual.likelihood, usual))
            for model, errors in ((model_of(x, y), ours), (usual, default)):
                with torch.no_grad():
                    error = model.posterior(z).mean.squeeze(-1) - branin(z)
                errors.append(error.square().mean().sqrt() / branin(z).std())
        ours, default = torch.stack(ours).mean(), torch.stack(default).mean()
        assert ours < 0.4  # the prior mean has 1
        assert ours < 1.5 * default

    def test_fit_raises_the_likelihood(self, fitted):
        start = model_of(*data_of(fitted), fitted=False)
        values = []
        for model in (start, fitted):
            model.train()
            mll = ExactMarginalLogLikelihood(model.likelihood, model)
            with torch.no_grad():
                values.append(mll(model(*model.train_inputs), model.train_targets))
            model.eval()
        assert values[1] > values[0] + 0.05

    def test_t_batches(self, fitted):
        z = design(15, seed=1).reshape(5, 3, 2)
        with torch.no_grad():
            batch = fitted.posterior(z)
            for index in range(5):
                single = fitted.posterior(z[index])
                torch.testing.assert_close(batch.mean[index], single.mean)
                torch.testing.assert_close(
                    batch.variance[index], single.variance, rtol=1e-6, atol=1e-6
                )

    def test_two_outputs(self, two_outputs):
        z = design(7, seed=1)
        with torch.no_grad():
            mean = two_outputs.posterior(z).mean
            assert mean.shape == (7, 2)
            for output in range(2):
                single = two_outputs.subset_output([output])
                torch.testing.assert_close(single.posterior(z).mean, mean[:, [output]])
        kernels = [two_outputs.covar_module[output] for output in range(2)]
        assert not torch.allclose(dense(kernels[0], z), dense(kernels[1], z))

    def test_subset_is_a_model_of_its_own(self, two_outputs):
        """Against the textbook, with the hyperparameters of the output."""
        z = design(7, seed=1)
        for output in range(2):
            single = two_outputs.subset_output([output])
            with torch.no_grad():
                mean = single.posterior(z).mean.squeeze(-1)
            expected, _ = exact_posterior(single, z)
            torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-5)

    def test_condition_on_observations(self, fitted):
        z, new = design(7, seed=1), design(4, seed=2)
        y = -branin(new)[:, None]
        with torch.no_grad():
            fitted.posterior(z)
            conditioned = fitted.condition_on_observations(new, y)
            mean = conditioned.posterior(z).mean.squeeze(-1)
        x, targets = data_of(fitted)
        whole = model_of(torch.cat([x, new]), torch.cat([targets, y]), fitted=False)
        whole.load_state_dict(fitted.state_dict())
        transform = fitted.outcome_transform  # the standardisation of the first data
        joint = (torch.cat([targets, y]) - transform.means) / transform.stdvs
        whole.set_train_data(targets=joint.squeeze(-1), strict=False)
        whole.eval()
        whole.outcome_transform.load_state_dict(transform.state_dict())
        expected, _ = exact_posterior(whole, z)
        torch.testing.assert_close(mean, expected, rtol=1e-5, atol=1e-4)

    def test_fantasize(self, fitted):
        z, new = design(7, seed=1), design(2, seed=2)
        sampler = SobolQMCNormalSampler(sample_shape=torch.Size([4]), seed=0)
        with torch.no_grad():
            fantasies = fitted.fantasize(new, sampler)
            posterior = fantasies.posterior(z)
            before = fitted.posterior(z).variance
        assert posterior.mean.shape == (4, 7, 1)
        assert posterior.mean.std(0).max() > 0
        assert (posterior.variance <= before * (1 + 1e-6) + 1e-6).all()


def data_of(model):
    """The training data in their own units."""
    y, _ = model.outcome_transform.untransform(model.train_targets[:, None])
    return model.train_inputs[0], y.detach()


# Two equal points have a singular joint posterior, whatever the kernel.
@pytest.mark.filterwarnings("ignore:A not p.d., added jitter")
class TestAcquisition:
    def starts(self, model):
        """On training points, on duplicates of one another, and elsewhere."""
        x = model.train_inputs[0]
        middle = torch.full((1, 2), 0.5, dtype=torch.float64)  # the kernel's origin
        rows = [x[[0, 1]], x[[2, 2]], torch.cat([middle, middle]), torch.cat([middle, x[[3]]])]
        return torch.stack(rows)

    def best(self, model):
        return data_of(model)[1].max()

    def test_gradients_are_those_of_differences(self, fitted):
        """In the joint posterior of points that coincide with training points and each other."""
        z = self.starts(fitted).requires_grad_()
        acquisition = qLogExpectedImprovement(
            fitted, self.best(fitted), SobolQMCNormalSampler(torch.Size([16]), seed=0)
        )
        (gradient,) = torch.autograd.grad(acquisition(z).sum(), z)
        differences, step = torch.empty_like(gradient), 1e-6
        for index in range(4):
            shift = torch.zeros(4, dtype=torch.float64)
            shift[index] = step
            with torch.no_grad():
                ends = [acquisition(z + sign * shift.view(2, 2)) for sign in (1, -1)]
            differences[:, index // 2, index % 2] = (ends[0] - ends[1]) / (2 * step)
        torch.testing.assert_close(gradient, differences, rtol=3e-3, atol=1e-3)

    def test_gradient_of_the_mean_on_training_points(self, fitted):
        z = fitted.train_inputs[0][:4, None].clone().requires_grad_()
        mean = PosteriorMean(fitted)
        (gradient,) = torch.autograd.grad(mean(z).sum(), z)
        step = 1e-5
        for index in range(2):
            shift = torch.zeros(2, dtype=torch.float64)
            shift[index] = step
            with torch.no_grad():
                difference = (mean(z + shift) - mean(z - shift)) / (2 * step)
            torch.testing.assert_close(gradient[:, 0, index], difference, rtol=1e-4, atol=1e-3)

    def test_log_expected_improvement(self, fitted):
        acquisition = qLogExpectedImprovement(
            fitted, self.best(fitted), SobolQMCNormalSampler(torch.Size([32]), seed=0)
        )
        starts = self.starts(fitted)
        candidates, value = optimize_acqf(
            acquisition,
            BOUNDS,
            q=2,
            num_restarts=len(starts),
            batch_initial_conditions=starts,
            options={"maxiter": 20},
        )
        assert ((candidates >= 0) & (candidates <= 1)).all()
        with torch.no_grad():
            assert value > acquisition(starts).max()
            random = design(128, seed=5).reshape(64, 2, 2)
            assert value > acquisition(random).quantile(0.9)

    def test_knowledge_gradient(self, fitted):
        acquisition = qKnowledgeGradient(fitted, num_fantasies=4)
        torch.manual_seed(0)
        candidates, value = optimize_acqf(
            acquisition,
            BOUNDS,
            q=1,
            num_restarts=2,
            raw_samples=16,
            options={"maxiter": 15, "batch_limit": 2},
        )
        assert ((candidates >= 0) & (candidates <= 1)).all()
        z = design(256, seed=5)
        with torch.no_grad():
            present = fitted.posterior(z).mean.max()
        assert value > present  # knowing more cannot cost anything

    def test_finds_the_minimum(self):
        """A few steps of Bayesian optimisation from a design get closer to the optimum."""
        x = design(8, seed=3)
        y = -branin(x)[:, None]
        first = y.max()
        for step in range(6):
            model = model_of(x, y, seed=step)
            acquisition = qLogExpectedImprovement(
                model, y.max(), SobolQMCNormalSampler(torch.Size([32]), seed=step)
            )
            torch.manual_seed(step)
            candidate, _ = optimize_acqf(
                acquisition, BOUNDS, 1, 2, raw_samples=32, options={"maxiter": 30}
            )
            x, y = torch.cat([x, candidate]), torch.cat([y, -branin(candidate)[:, None]])
        assert y.max() > first
        assert y.max() > -3  # the optimum is -0.398, the median of the function -38


def test_a_batch_of_centred_kernels_can_be_indexed():
    kernel = CentredKernel(ResNetLimitKernel(batch_shape=torch.Size([2, 1]))).double()
    kernel.base_kernel.weight_variance = torch.tensor([0.5, 2.0]).reshape(2, 1, 1, 1)
    x = torch.rand(3, 5, 4, dtype=torch.float64)
    whole = kernel(x).to_dense()
    assert torch.equal(kernel(x)[1, 2, :3].to_dense(), whole[1, 2, :3])
