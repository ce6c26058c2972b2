"""The protocol: what fits return, and that one more way of inference needs nothing else."""

import numpy as np
import pytest
import torch

from resnet_gp import ResNetGPRegressor
from resnet_gp.fitting import choice
from resnet_gp.fitting.exact import Exact
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.nearest import Nearest
from resnet_gp.fitting.optimiser import Outcome
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.sparse import Sparse
from resnet_gp.models.exact_posterior import ExactPosterior
from resnet_gp.models.posterior import UnsupportedError
from resnet_gp.progress import progress_bar

RNG = np.random.default_rng(0)
X = RNG.uniform(-2, 2, size=(60, 2))
Y = np.sin(2 * X[:, 0]) + X[:, 1] ** 2 + 0.1 * RNG.normal(size=60)
TRAINING = Training(torch.from_numpy(X), torch.from_numpy((Y - Y.mean()) / Y.std()))
WAYS = {"exact": Exact(), "nearest": Nearest(20, student=False), "sparse": Sparse(20)}


def search(**options):
    usual = {
        "with_priors": True, "fixed": False, "noise_variance": None, "max_iter": 30,
        "n_restarts": 0, "max_samples": None, "generator": np.random.RandomState(0),
        "bar": progress_bar("", False),
    }  # fmt: skip
    return Search(KernelSpec("limit", "relu", None, False), **(usual | options))


@pytest.fixture(scope="module", params=WAYS)
def way(request):
    return WAYS[request.param]


@pytest.fixture(scope="module")
def fitted(way):
    return way.fit(TRAINING, search())


def test_a_fit_continues_from_its_own_hyperparameters(way, fitted):
    again = way.fit(TRAINING, search(fixed=True), fitted.hyperparameters)
    assert again.result.outcome is Outcome.NOT_SEARCHED
    new = torch.from_numpy(RNG.uniform(-2, 2, size=(5, 2)))
    torch.testing.assert_close(again.posterior.mean(new), fitted.posterior.mean(new))


def test_tensors_restore_it_to_the_bit(way, fitted):
    tensors = {name: value.clone() for name, value in fitted.tensors().items()}
    again = way.restore(TRAINING, search(), tensors)
    new = torch.from_numpy(RNG.uniform(-2, 2, size=(5, 2)))
    for one, other in zip(fitted.posterior.joint(new), again.posterior.joint(new), strict=True):
        assert torch.equal(one, other)
    assert again.posterior.log_marginal_likelihood() == fitted.posterior.log_marginal_likelihood()


def test_laws_are_marginals_of_the_joint_law(fitted):
    new = torch.from_numpy(RNG.uniform(-2, 2, size=(5, 2)))
    for noise in (True, False):
        law = fitted.posterior.law(new, noise)
        mean, covariance = fitted.posterior.joint(new, noise)
        np.testing.assert_allclose(law.mean, mean, rtol=1e-7, atol=1e-9)
        np.testing.assert_allclose(law.variance, covariance.diagonal(), rtol=1e-8, atol=1e-10)
    gap = fitted.posterior.law(new).variance - fitted.posterior.law(new, False).variance
    np.testing.assert_allclose(gap, fitted.model.likelihood.noise.item())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda known: known.pop("covar_module.raw_outputscale"), "raw_outputscale is missing"),
        (
            lambda known: known.update({"covar_module.raw_slope": torch.zeros(2)}),
            r"raw_slope of shape \(2,\) has no place",
        ),
        (
            lambda known: known.update(
                {"covar_module.base_kernel.raw_lengthscale": torch.zeros(1, 1)}
            ),
            r"raw_lengthscale has shape \(1, 1\), not \(1, 2\)",
        ),
    ],
)
def test_hyperparameters_of_another_model_are_refused(way, fitted, change, message):
    known = fitted.hyperparameters
    change(known)
    for fixed in (True, False):
        with pytest.raises(ValueError, match=message):
            way.fit(TRAINING, search(fixed=fixed), known)


class Subset(Exact):
    """A way of inference of its own: condition on the first rows only."""

    name = "subset"

    def fit(self, training, search, known=None):
        return super().fit(Training(training.x[:30], training.y[:30]), search, known)


def test_one_more_way_needs_no_other_change(monkeypatch, tmp_path):
    chosen = choice.choose_inference
    monkeypatch.setattr(
        "resnet_gp.estimators.regressor.choose_inference",
        lambda asked, *others: Subset() if asked != "exact" else chosen(asked, *others),
    )
    model = ResNetGPRegressor(residuals="gaussian", max_iter=40).fit(X, Y)
    assert model.inference_ == "subset"
    alone = ResNetGPRegressor(max_iter=40, inference="exact").fit(X[:30], Y[:30])
    assert not np.allclose(model.predict(X[:3]), alone.predict(X[:3]))  # of other units
    assert len(model._fitted.posterior.train_x) == 30
    assert model.predict_quantiles(X[:4]).shape == (4, 3)
    assert model.sample_y(X[:4], 2).shape == (4, 2)


def test_a_subset_is_random_but_always_the_same():
    some, again = TRAINING.sample(10), TRAINING.sample(10)
    assert torch.equal(some.x, again.x)
    assert not torch.equal(some.x, TRAINING.x[:10])
    assert TRAINING.sample(60) is TRAINING
    assert TRAINING.sample(None) is TRAINING


def test_without_left_out_predictions_the_law_stays_gaussian(monkeypatch, tmp_path):
    pytest.importorskip("safetensors")

    def refuse(self):
        raise UnsupportedError("no such closed form")

    monkeypatch.setattr(ExactPosterior, "leave_one_out_law", refuse)
    model = ResNetGPRegressor(hyperparameters="map", max_iter=40).fit(X, Y)
    assert model.residuals_ == "gaussian"
    model.save(tmp_path / "model")
    again = ResNetGPRegressor.load(tmp_path / "model")
    np.testing.assert_array_equal(again.predict_law(X[:4]).std, model.predict_law(X[:4]).std)
