"""Modes under several kernels, and the likeliest of them."""

import math
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from resnet_gp.fitting import modes
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import around, find_modes, higher, most_probable
from resnet_gp.fitting.optimiser import Outcome, get_raw
from resnet_gp.fitting.search import Search
from resnet_gp.kernels import ResNetSumKernel
from resnet_gp.threads import torch_threads

RNG = np.random.default_rng(0)
X = RNG.normal(size=(60, 2))
Y = np.sin(2 * X[:, 0]) + 0.1 * RNG.normal(size=60)


def training(y=Y):
    return Training(torch.from_numpy(X), torch.from_numpy(y))


def search(*counts, **options):
    specs = [KernelSpec("limit", "relu", None, False, count) for count in counts]
    bar = SimpleNamespace(update=lambda: None, set_postfix_str=lambda *a, **k: None)
    given = {
        "with_priors": True, "fixed": False, "noise_variance": None, "max_iter": None,
        "n_restarts": 0, "max_samples": None, "generator": np.random.RandomState(0), "bar": bar,
    }  # fmt: skip
    return Search(specs[0], **(given | options), others=tuple(specs[1:]))


@pytest.mark.parametrize("threads", [1, 2])
def test_each_kernel_has_the_mode_that_it_has_alone(threads):
    with torch_threads(threads):
        found = find_modes(training(), search(1, 2))
    assert [mode.number for mode in found] == [0, 1]
    for mode, count in zip(found, (1, 2), strict=True):
        alone = find_modes(training(), search(count))[0]
        assert mode.result.value == pytest.approx(alone.result.value, abs=1e-3)


def test_one_simple_function_needs_one_network():
    assert most_probable(find_modes(training(), search(1, 2))).number == 0


def test_two_scales_need_two_networks():
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(150, 2, generator=generator, dtype=torch.float64)
    kernel = ResNetSumKernel(
        input_bias=True, variance="no_growth", contrast=True, ard_num_dims=2
    ).double()
    first, second = kernel.components
    first.lengthscale, second.lengthscale = torch.tensor([[1.0, 9.0]]), torch.tensor([[9.0, 0.2]])
    first.weight_variance, second.weight_variance = 1.0, 50.0
    with torch.no_grad():
        covariance = kernel(x).to_dense() + 1e-3 * torch.eye(150)
    white = torch.randn(150, generator=generator, dtype=torch.float64)
    y = torch.linalg.cholesky(covariance) @ white
    rows = Training(x, (y - y.mean()) / y.std())
    found = find_modes(rows, search(1, 2))
    assert found[1].result.value > found[0].result.value + 10
    assert most_probable(found).number == 1


def test_known_hyperparameters_start_their_own_kernel():
    first = find_modes(training(), search(2))[0]
    known = {name: p.detach() for name, p in first.model.named_parameters()}
    again = find_modes(training(), search(1, 2, fixed=True), known)
    assert [mode.number for mode in again] == [1]
    np.testing.assert_array_equal(get_raw(again[0].model), get_raw(first.model))
    assert again[0].result.outcome is Outcome.NOT_SEARCHED


def test_hyperparameters_that_fit_several_kernels_name_their_own():
    specs = [KernelSpec(name, "relu", None, False) for name in ("limit", "tangent")]
    both = replace(search(1), spec=specs[0], others=(specs[1],))
    second = find_modes(training(), both)[1]
    known = {name: p.detach() for name, p in second.model.named_parameters()}
    known["kernel"] = torch.tensor(1)
    for one in (replace(both, fixed=True), replace(both, max_iter=1)):
        again = find_modes(training(), one, known)[-1]
        assert again.number == 1
        np.testing.assert_allclose(get_raw(again.model), get_raw(second.model), atol=1e-4)
    known["kernel"] = torch.tensor(5)  # there are fewer kernels now
    assert find_modes(training(), replace(both, fixed=True), known)[0].number == 0


def test_hyperparameters_of_no_kernel_are_refused():
    with pytest.raises(ValueError, match="of another model"):
        find_modes(training(), search(1, 2), {"strange": torch.zeros(1)})


def test_an_interrupt_keeps_what_was_found(monkeypatch):
    fit = modes.fit_exact

    def second_fails(rows, one, known=None):
        if one.spec.n_components == 2:
            raise KeyboardInterrupt
        return fit(rows, one, known)

    monkeypatch.setattr(modes, "fit_exact", second_fails)
    found = find_modes(training(), search(1, 2))
    assert [mode.number for mode in found] == [0]
    monkeypatch.setattr(modes, "fit_exact", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        find_modes(training(), search(1, 2))


def test_a_kernel_that_fails_leaves_the_others(monkeypatch):
    fit = modes.fit_exact

    def first_fails(rows, one, known=None):
        if one.spec.n_components == 1:
            raise torch.linalg.LinAlgError("not positive definite anywhere")
        return fit(rows, one, known)

    monkeypatch.setattr(modes, "fit_exact", first_fails)
    assert [mode.number for mode in find_modes(training(), search(1, 2))] == [1]


def test_the_law_at_the_mode_has_its_curvature():
    """Draws have the posterior's own spread: log density falls by p / 2 on average."""
    mode = find_modes(training(), search(1))[0]
    with around(mode) as (posterior, proposal):
        draws, _ = proposal.draw(200, np.random.RandomState(0))
        falls = mode.result.value - posterior.values(draws)
        assert posterior.values(proposal.centre[None])[0] == pytest.approx(mode.result.value)
    p = len(proposal.centre)
    assert p / 4 < np.median(falls) < 1.5 * p
    assert math.isfinite(proposal.log_evidence(mode.result.value))


def test_a_search_from_a_likelier_point_ends_higher():
    mode = find_modes(training(), search(1, max_iter=1))[0]
    start = get_raw(find_modes(training(), search(1))[0].model)
    before = mode.result.value
    assert higher(mode, start).result.value > before
