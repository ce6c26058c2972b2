import numpy as np
import pytest
import torch
from gpytorch.kernels import MaternKernel

from resnet_gp.fitting import nearest, optimiser
from resnet_gp.fitting.checkpoint import Checkpoint
from resnet_gp.fitting.exact import Exact
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import find_modes
from resnet_gp.fitting.nearest import Nearest
from resnet_gp.fitting.optimiser import Outcome, get_raw
from resnet_gp.fitting.search import Search
from resnet_gp.fitting.sparse import Sparse
from resnet_gp.kernels import ResNetLimitKernel
from resnet_gp.models import ExactRegression
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.nearest_posterior import NearestPosterior
from resnet_gp.progress import progress_bar

pytestmark = pytest.mark.usefixtures("few_rows_learn")

SPECS = {
    1: KernelSpec("limit", "relu", None, False),
    2: KernelSpec("limit", "relu", None, False, 2),
    "matern": KernelSpec(MaternKernel(2.5, ard_num_dims=2), "relu", None, False),
    "short": KernelSpec(MaternKernel(0.5), "relu", None, False),
    "biased": KernelSpec("limit", "relu", None, True),
}


def search(*kernels, **options):
    spec, *others = (SPECS[kernel] for kernel in kernels or (1,))
    usual = {
        "with_priors": True, "fixed": False, "noise_variance": None, "max_iter": None,
        "n_restarts": 0, "max_samples": None, "generator": np.random.RandomState(0),
        "bar": progress_bar("", False),
    }  # fmt: skip
    return Search(spec, others=tuple(others), **(usual | options))


def training(n=90, outputs=None, **rows):
    rng = np.random.default_rng(0)
    x = rng.uniform(-2, 2, size=(n, 2))
    y = np.sin(3 * x[:, :1]) + x[:, 1:] ** 2 + 0.1 * rng.normal(size=(n, outputs or 1))
    y = torch.from_numpy((y - y.mean(0)) / y.std(0))
    return Training(torch.from_numpy(x), y if outputs else y[:, 0], **rows)


NEW = torch.from_numpy(np.random.default_rng(1).uniform(-2, 2, size=(20, 2)))


def hyperparameters(fitted):
    return get_raw(fitted.model)


def interrupted(monkeypatch, owner, name, calls):
    """Ctrl-C in the call of a function after so many calls."""
    function, left = getattr(owner, name), [calls]

    def counted(*arguments, **options):
        left[0] -= 1
        if left[0] < 0:
            raise KeyboardInterrupt
        return function(*arguments, **options)

    monkeypatch.setattr(owner, name, counted)


@pytest.fixture(scope="module")
def fitted():
    return Nearest().fit(training(), search())


def test_it_finds_the_hyperparameters_of_the_process():
    """Targets drawn from a known process: those of exact inference, and not far from the truth."""
    generator = np.random.default_rng(1)
    x = torch.from_numpy(generator.uniform(-2, 2, size=(120, 2)))
    kernel = MaternKernel(2.5, ard_num_dims=2).double()
    kernel.lengthscale = torch.tensor([0.5, 2.0], dtype=torch.float64)
    covariance = kernel(x).to_dense().detach() + 0.02 * torch.eye(120, dtype=torch.float64)
    y = torch.linalg.cholesky(covariance) @ torch.from_numpy(generator.normal(size=120))
    rows = Training(x, y)
    ways = Nearest(student=False), Exact()
    found, exact = (one.fit(rows, search("matern")) for one in ways)
    assert found.result.outcome in (Outcome.CONVERGED, Outcome.CUT_SHORT)
    for one in (found, exact):
        lengthscale = one.model.covar_module.base_kernel.lengthscale[0].detach()
        torch.testing.assert_close(lengthscale, kernel.lengthscale[0].detach(), rtol=0.4, atol=0)
        assert one.model.likelihood.noise.item() == pytest.approx(0.02, rel=0.4)
    np.testing.assert_allclose(hyperparameters(found), hyperparameters(exact), atol=0.6)
    mean, variance = exact.posterior.mean_and_variance(NEW)
    error = (found.posterior.mean(NEW) - mean) / (variance + 0.02).sqrt()
    assert error.abs().max() < 0.5


def test_learning_raises_the_density_of_left_out_rows(fitted):
    """Above that at the exact fit to some of the rows, where it starts."""
    rows = training(60)  # few enough to be neighbours of each other
    start = Exact().fit(rows.sample(30), search(with_priors=False))
    learned = Nearest(student=False).fit(rows, search(with_priors=False))
    model = NearestRegression(rows.x, rows.y, SPECS[1].build(2))
    optimiser.set_raw(model, hyperparameters(start))
    before = model.log_marginal_likelihood().item()
    optimiser.set_raw(model, hyperparameters(learned))
    assert model.log_marginal_likelihood().item() > before
    assert learned.result.value == pytest.approx(model.log_marginal_likelihood().item(), rel=1e-6)


@pytest.mark.parametrize("kernels", [(1,), (1, 2)])
@pytest.mark.parametrize("known", [False, True])
def test_of_few_rows_the_exact_fit_is_kept(monkeypatch, kernels, known):
    monkeypatch.setattr(nearest, "_FEW_ROWS", 60)
    few, more = training(60), training(61)
    start = Exact().fit(more, search(max_iter=3)).hyperparameters if known else None
    found, exact = (one.fit(few, search(*kernels), start) for one in (Nearest(), Exact()))
    assert isinstance(found.model, NearestRegression)
    modes = find_modes(few, search(*kernels), start)
    np.testing.assert_array_equal(hyperparameters(found), get_raw(modes[found.number].model))
    assert found.result.trace == modes[found.number].result.trace
    assert len(kernels) > 1 or found.result.value == exact.result.value
    model = Nearest().fit(more, search(*kernels), start).model
    assert not np.array_equal(hyperparameters(found), get_raw(model))


def test_what_comes_back(fitted):
    assert isinstance(fitted.model, NearestRegression)
    assert isinstance(fitted.posterior, NearestPosterior)
    assert fitted.posterior.n_neighbors == fitted.model.n_neighbors
    assert not fitted.posterior.local_scale.is_normal
    assert fitted.num_optimised == len(hyperparameters(fitted))
    assert len(fitted.result.trace) == fitted.result.iterations


def test_fixed_hyperparameters_are_kept(fitted):
    for known in (fitted.hyperparameters, None):
        again = Nearest().fit(training(), search(fixed=True), known)
        assert again.result.outcome is Outcome.NOT_SEARCHED
        if known is not None:
            np.testing.assert_array_equal(hyperparameters(again), hyperparameters(fitted))
            assert again.posterior.local_scale == fitted.posterior.local_scale
            assert torch.equal(again.posterior.mean(NEW), fitted.posterior.mean(NEW))


def test_a_start_is_improved(fitted):
    again = Nearest().fit(training(), search(), fitted.hyperparameters)
    assert again.result.iterations <= 25
    assert again.result.value > fitted.result.value - 0.1


@pytest.mark.parametrize(
    "ways", [(Exact(), Nearest(30)), (Sparse(15, False), Nearest(30))], ids=["exact", "sparse"]
)
def test_each_way_starts_where_another_ended(ways):
    rows = training(60)
    first, second = ways
    one = first.fit(rows, search(max_iter=8))
    other = second.fit(rows, search(fixed=True), one.hyperparameters)
    shared = other.hyperparameters
    assert all(torch.equal(value, one.hyperparameters[name]) for name, value in shared.items())
    back = first.fit(rows, search(fixed=True), shared) if isinstance(first, Exact) else None
    assert back is None or torch.equal(back.posterior.mean(NEW), one.posterior.mean(NEW))
    error = other.posterior.mean(NEW) - one.posterior.mean(NEW)
    assert error.abs().max() < 0.4


def test_the_number_of_neighbours_is_what_was_asked_for():
    rows = training(60)
    for asked in (1, 7, 500):
        one = Nearest(asked).fit(rows, search(max_iter=5))
        assert one.posterior.n_neighbors == one.model.n_neighbors == asked
    assert Nearest().fit(rows, search(max_iter=5)).posterior.n_neighbors == 60


def test_as_few_neighbours_are_chosen_as_lose_next_to_nothing(monkeypatch):
    monkeypatch.setattr(nearest, "_NEIGHBORS", (2, 20, 60))
    monkeypatch.setattr(nearest, "_CHOICE_NEIGHBORS", 20)
    known = training(200)
    start = Nearest(20).fit(known, search(max_iter=20)).hyperparameters
    chosen = Nearest().fit(known, search(fixed=True), start)
    scores = {}
    for k in (2, 20, 60):
        one = Nearest(k).fit(known, search(fixed=True), start)
        law = one.posterior.leave_one_out_law()
        scores[k] = law.crps(known.y.numpy()).mean()
    enough = (1 + nearest._WITHIN) * min(scores.values())
    expected = next(k for k, score in scores.items() if score <= enough)
    assert chosen.posterior.n_neighbors == expected > 2


def test_fewer_rows_and_neighbours_where_entries_are_integrated(monkeypatch):
    monkeypatch.setattr(nearest, "_NEIGHBORS", (10, 20))
    monkeypatch.setattr(nearest, "_INTEGRATED_ROWS", 15)
    rows = training(40)
    fitted = Nearest().fit(rows, search("biased", max_iter=1))
    assert fitted.model.training_rows == 15
    assert fitted.posterior.n_neighbors == 10
    assert Nearest(12).fit(rows, search("biased", max_iter=1)).posterior.n_neighbors == 12
    assert Nearest().fit(rows, search(max_iter=1)).model.training_rows > 40


def test_the_better_kernel_is_taken():
    rows = training(60)
    alone = [Nearest(20).fit(rows, search(kernel, max_iter=8)) for kernel in ("short", 1)]
    scores = [one.posterior.leave_one_out_law().crps(rows.y.numpy()).mean() for one in alone]
    assert scores[1] < scores[0]
    for kernels, number in ((("short", 1), 1), ((1, "short"), 0)):
        both = Nearest(20).fit(rows, search(*kernels, max_iter=8))
        assert both.number == number
        assert torch.equal(both.posterior.mean(NEW), alone[1].posterior.mean(NEW))


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("kernels", [(1,), ("short", 2)])
def test_tensors_restore_it_to_the_bit(outputs, kernels):
    extra = torch.linspace(0, 0.1, 60, dtype=torch.float64)
    rows = training(60, outputs, extra_variance=extra, sample_weight=1 + extra)
    one = Nearest(15).fit(rows, search(*kernels, max_iter=4))
    tensors = {name: value.clone() for name, value in one.tensors().items()}
    again = Nearest(15).restore(Training(rows.x, rows.y), search(*kernels), tensors)
    assert again.number == one.number
    assert again.posterior.local_scale == one.posterior.local_scale
    for a, b in zip(again.posterior.joint(NEW), one.posterior.joint(NEW), strict=True):
        assert torch.equal(a, b)
    for a, b in zip(again.posterior.leave_one_out(), one.posterior.leave_one_out(), strict=True):
        assert torch.equal(a, b)
    assert again.model.log_marginal_likelihood() == one.model.log_marginal_likelihood()


def test_further_rows_are_restored_to_the_bit():
    """The metric in which rows are near is that of the fit, not of all rows."""
    rows = training()
    first = Training(rows.x[:70], rows.y[:70])
    one = Nearest(5).fit(first, search(max_iter=4))
    one = one.condition(rows.x[70:], rows.y[70:], None)
    again = Nearest(5).restore(rows, search(), one.tensors())
    assert torch.equal(again.posterior.mean(NEW), one.posterior.mean(NEW))
    assert again.posterior.log_marginal_likelihood() == one.posterior.log_marginal_likelihood()


def test_weights_and_known_variances_count():
    rng = np.random.default_rng(0)
    rows = training()
    bad = np.arange(90) % 4 == 0
    y = rows.y + torch.from_numpy(np.where(bad, 3 * rng.normal(size=90), 0))
    extra = torch.from_numpy(np.where(bad, 9.0, 0.0))
    weight = torch.from_numpy(np.where(bad, 0.002, 1.0))
    errors = []
    truth = Nearest(40).fit(rows, search()).posterior.mean(NEW)
    for options in ({}, {"extra_variance": extra}, {"sample_weight": weight}):
        one = Nearest(40).fit(Training(rows.x, y, **options), search())
        errors.append((one.posterior.mean(NEW) - truth).square().mean())
    assert max(errors[1:]) < 0.3 * errors[0]


def test_a_known_noise_is_kept():
    one = Nearest(20).fit(training(60), search(noise_variance=0.3, max_iter=10))
    assert one.model.likelihood.noise.item() == pytest.approx(0.3, rel=1e-6)
    assert one.posterior.noise_variance.item() == pytest.approx(0.3, rel=1e-6)
    assert one.num_optimised == 4


def test_normal_laws_on_request():
    one = Nearest(20, student=False).fit(training(60), search(max_iter=5))
    assert one.posterior.local_scale.is_normal


def test_as_many_iterations_as_are_asked_for(monkeypatch):
    """Neighbours are looked up between rounds; what was planned to be short is no failure."""
    monkeypatch.setattr(nearest, "_ITERATIONS", 3)
    monkeypatch.setattr(nearest, "_FIRST_ROWS", 20)
    short = Nearest(20).fit(training(), search(with_priors=False))
    assert short.result.outcome is Outcome.CUT_SHORT
    asked = Nearest(20).fit(training(), search(with_priors=False, max_iter=2))
    assert asked.result.outcome is Outcome.OUT_OF_ITERATIONS
    asked = Nearest(20).fit(training(), search(with_priors=False, max_iter=4)).result
    assert asked.iterations == len(asked.trace) == 4  # in two rounds
    longer = Nearest(20).fit(training(), search(with_priors=False, max_iter=300))
    assert longer.result.outcome is Outcome.CONVERGED
    assert longer.result.value > short.result.value


class Bar:
    """A progress bar at whose update Ctrl-C comes."""

    def __init__(self, updates):
        self.left = updates

    def update(self):
        self.left -= 1
        if self.left < 0:
            raise KeyboardInterrupt

    def set_postfix_str(self, text, refresh):
        pass


@pytest.mark.parametrize("kernels", [(1,), (1, "short")])
@pytest.mark.parametrize("updates", [1, 6, 25, 45, 60, 80])
def test_ctrl_c_at_the_bar_leaves_the_best_so_far(kernels, updates):
    rows, bar = training(60), Bar(updates)
    one = Nearest(20).fit(rows, search(*kernels, bar=bar))
    assert one.result.interrupted == (bar.left < 0)
    assert one.posterior.mean(NEW).isfinite().all()
    if one.result.interrupted and updates <= 6:  # in the exact fits
        start = Exact().fit(rows, search(*kernels, bar=Bar(updates)))
        assert one.number == start.number
        np.testing.assert_array_equal(hyperparameters(one), hyperparameters(start))


@pytest.mark.parametrize("calls", [0, 1, 7])
def test_ctrl_c_while_learning_leaves_the_best_so_far(monkeypatch, calls):
    """In the first evaluation, that is the exact fit."""
    rows, evaluate, left = training(), optimiser.value_and_gradient, [calls]
    start = Exact().fit(rows, search())

    def limited(objective, module, raw):
        left[0] -= isinstance(module, NearestRegression)
        if left[0] < 0:
            raise KeyboardInterrupt
        return evaluate(objective, module, raw)

    monkeypatch.setattr(optimiser, "value_and_gradient", limited)
    one = Nearest(20).fit(rows, search())
    assert one.result.interrupted
    assert not isinstance(one.model, ExactRegression)
    if calls < 2:
        np.testing.assert_allclose(hyperparameters(one), hyperparameters(start), rtol=1e-12)
    else:
        assert one.result.value > -np.inf


@pytest.mark.parametrize("calls", [0, 1])
def test_ctrl_c_while_neighbours_are_looked_up(monkeypatch, calls):
    interrupted(monkeypatch, NearestRegression, "look_up", calls)
    one = Nearest(20).fit(training(), search())
    assert one.result.interrupted
    assert np.isfinite(one.result.value)


@pytest.mark.parametrize("calls", range(4))
def test_ctrl_c_during_the_choices_leaves_what_was_learned(monkeypatch, calls):
    """Left-out predictions choose among kernels and numbers of neighbours."""
    monkeypatch.setattr(nearest, "_NEIGHBORS", (5, 20, 60))
    monkeypatch.setattr(nearest, "_CHOICE_NEIGHBORS", 20)
    rows = training(61)
    learned = [Nearest(20).fit(rows, search(kernel, max_iter=5)) for kernel in ("short", 1)]
    interrupted(monkeypatch, NearestPosterior, "left_out", calls)
    one = Nearest().fit(rows, search("short", 1, max_iter=5))
    assert one.result.interrupted
    np.testing.assert_array_equal(hyperparameters(one), hyperparameters(learned[one.number]))
    assert one.number == (0 if calls < 2 else 1)
    assert one.posterior.n_neighbors in (5, 20, 60)
    assert one.posterior.mean(NEW).isfinite().all()


def test_ctrl_c_before_anything_was_found_is_passed_on(monkeypatch):
    interrupted(monkeypatch, optimiser, "value_and_gradient", 0)
    with pytest.raises(KeyboardInterrupt):
        Nearest().fit(training(40), search())


@pytest.mark.parametrize("kernels", [(1,), ("short", 1)])
def test_a_checkpoint_carries_a_fit_over(monkeypatch, tmp_path, kernels):
    """After Ctrl-C in the last kernel's learning: no exact fit is repeated for it."""
    rows, evaluate, left = training(60), optimiser.value_and_gradient, [12]
    last = SPECS[kernels[-1]]
    count = len(list(last.build(2).parameters())) + 2

    def limited(objective, module, raw):
        own = isinstance(module, NearestRegression)
        left[0] -= own and len(list(module.parameters())) == count
        if left[0] < 0:
            raise KeyboardInterrupt
        return evaluate(objective, module, raw)

    path = tmp_path / "fit.json"
    with monkeypatch.context() as patch:
        patch.setattr(optimiser, "value_and_gradient", limited)
        first = Nearest(20).fit(rows, search(*kernels, checkpoint=Checkpoint(path, "digest")))
    assert first.result.interrupted
    again = Nearest(20).fit(rows, search(*kernels, checkpoint=Checkpoint(path, "digest")))
    assert not again.result.interrupted
    whole = Nearest(20).fit(rows, search(*kernels))
    assert again.number == whole.number
    assert again.result.value > whole.result.value - 0.5
    with pytest.raises(ValueError, match="of a fit of other data"):
        Nearest(20).fit(rows, search(*kernels, checkpoint=Checkpoint(path, "another")))


@pytest.mark.parametrize("n", [2, 3, 12])
@pytest.mark.parametrize("asked", [None, 1, 5])
def test_few_rows(n, asked):
    one = Nearest(asked).fit(training(n), search(1, max_iter=5))
    law = one.posterior.law(NEW)
    assert np.isfinite(law.mean).all()
    assert (law.std > 0).all()
    assert one.posterior.local_scale.is_normal == (n < 10)


def test_single_precision():
    rows = training(80)
    narrow = Training(rows.x.float(), rows.y.float())
    one = Nearest(20).fit(narrow, search(1))
    other = Nearest(20).fit(rows, search(1))
    assert one.posterior.mean(NEW.float()).dtype == torch.float32
    mean, std = other.posterior.law(NEW).mean, other.posterior.law(NEW).std
    assert np.abs((one.posterior.law(NEW.float()).mean - mean) / std).max() < 0.5


def test_hyperparameters_of_another_kernel_are_refused(fitted):
    with pytest.raises(ValueError, match=r"of another model: .*raw_weight_variance of shape"):
        Nearest().fit(training(), search("matern"), fitted.hyperparameters)


@pytest.mark.parametrize(
    ("asked", "n", "expected"),
    [
        (None, 50, [50]),
        (None, 100, [64, 100]),
        (None, 10_000, [64, 128, 256, 400]),
        (None, 10**6, [64, 128, 256]),
        (300, 10**6, [300]),
        (300, 20, [20]),
    ],
)
def test_numbers_of_neighbours_to_choose_from(asked, n, expected):
    assert Nearest(asked)._counts(n, SPECS[1]) == expected


def fails_for(monkeypatch, *kinds):
    """The density of left-out rows cannot be computed with kernels of these kinds."""
    density = NearestRegression.log_marginal_likelihood

    def failing(self):
        if isinstance(self.covar_module.base_kernel, kinds):
            raise torch.linalg.LinAlgError("nothing can be computed")
        return density(self)

    monkeypatch.setattr(NearestRegression, "log_marginal_likelihood", failing)


def test_a_kernel_that_cannot_be_computed_is_left_out(monkeypatch):
    fails_for(monkeypatch, MaternKernel)
    one = Nearest().fit(training(), search("matern", 1))
    assert isinstance(one.model.covar_module.base_kernel, ResNetLimitKernel)


def test_if_no_kernel_can_be_computed_it_is_an_error(monkeypatch):
    fails_for(monkeypatch, MaternKernel, ResNetLimitKernel)
    with pytest.raises(torch.linalg.LinAlgError, match=r"positive definite|computed"):
        Nearest().fit(training(), search("matern", 1))
