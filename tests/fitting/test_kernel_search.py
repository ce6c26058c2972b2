from dataclasses import replace

import pytest
import torch

from resnet_gp import ResNetLimitKernel
from resnet_gp.fitting import kernel_search
from resnet_gp.fitting.classifier_search import _ratio_of_spreads, best_share, weighted
from resnet_gp.fitting.kernel_search import Candidate, search
from resnet_gp.flow.domain import DomainError
from resnet_gp.models.leave_one_out import LeaveOneOut, Spectrum
from resnet_gp.threads import torch_threads


def kernel(horizon):
    made = ResNetLimitKernel(input_bias=True, variance="no_growth").double()
    made.weight_variance = horizon
    return made.requires_grad_(False)


X = torch.linspace(-1, 1, 12, dtype=torch.float64)[:, None]


def test_kernels_outside_the_domain_are_left_out():
    kernels = [kernel(1e5), kernel(2.0), kernel(1e6), kernel(20.0)]
    found = search(kernels, X, X.sin(), [0.01, 0.1], 4)
    assert {candidate.index for candidate in found} == {1, 3}


def test_no_kernel_within_the_domain_is_an_error():
    with pytest.raises(DomainError, match="horizon"):
        search([kernel(1e5)], X, X.sin(), [0.1], 1)


def test_each_kernel_has_its_best_noise_level():
    kernels, levels = [kernel(2.0), kernel(20.0)], [1e-3, 0.01, 0.1, 1.0]
    targets = X.sin() + 0.3 * torch.cos(40 * X)
    found = search(kernels, X, targets, levels, None)
    assert [one.index for one in found] in ([0, 1], [1, 0])
    assert found[0].error <= found[1].error
    for one in found:
        alone = [search([kernels[one.index]], X, targets, [level], 1)[0] for level in levels]
        assert one.error == min(other.error for other in alone)


def test_weights_fall_with_the_errors_and_their_number():
    held_out = LeaveOneOut(X, X, X)
    candidates = [Candidate(i, 1.0, 0.1, error, held_out) for i, error in enumerate([1, 1.1, 2])]
    kept, weights = weighted(candidates, 20)
    assert [one.index for one in kept] == [0, 1, 2]
    torch.testing.assert_close(
        weights, torch.tensor([1, 1.1**-2, 0.25]).double() / (1.25 + 1.1**-2)
    )
    kept, weights = weighted(candidates, 100)
    assert [one.index for one in kept] == [0, 1]
    kept, weights = weighted([replace(one, error=0.0) for one in candidates], 100)
    assert weights.tolist() == [1 / 3] * 3


def test_the_share_of_others_has_the_least_squared_error():
    generator = torch.Generator().manual_seed(0)
    errors, others = (torch.randn(50, 2, generator=generator).double() for _ in range(2))
    others = 2 * others + errors
    shares = torch.linspace(0, 0.3, 3001, dtype=torch.float64)
    losses = [((1 - s) * errors + s * others).square().sum() for s in shares]
    best = shares[int(torch.stack(losses).argmin())]
    assert best_share(errors, others) == pytest.approx(best.item(), abs=1e-4)
    assert best_share(errors, 0 * errors) == 0.3  # too good to be true
    assert best_share(errors, 2 * errors) == 0
    assert best_share(errors, errors) == 0


def test_threads_of_kernels_do_not_wait_for_each_other(monkeypatch):
    kernels, seen, ticks = [kernel(h) for h in (2.0, 20.0, 40.0)], [], []

    class Watched(Spectrum):
        def __init__(self, *arguments):
            seen.append(torch.get_num_threads())
            super().__init__(*arguments)

    alone = [search([one], X, X.sin(), [0.1], 1)[0].error for one in kernels]
    monkeypatch.setattr(kernel_search, "Spectrum", Watched)
    with torch_threads(2):
        found = search(kernels, X, X.sin(), [0.1], None, lambda: ticks.append(1))
    assert seen == [1, 1, 1]
    assert len(ticks) == 3
    assert [one.error for one in found] == sorted(alone)


def test_an_average_is_as_sure_as_its_first_group():
    first = torch.tensor([[3.0, 1.0], [0.0, 4.0]])
    assert _ratio_of_spreads(first, first / 2 + 5) == pytest.approx(2)
    assert _ratio_of_spreads(first, torch.ones(2, 2)) == 1
