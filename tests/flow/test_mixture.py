import math

import pytest
import torch

from resnet_gp.flow.correlation import contrast, flow, flow_and_slopes
from resnet_gp.flow.mixture import gaussian_mixture

HORIZONS = [0.0, 1e-6, 1e-3, 0.1, 1.0, 5.0, 20.0, 100.0, 1e3, 1e4]


def near_and_far_gaps():
    angles = torch.linspace(0, math.pi, 2000, dtype=torch.float64)
    near = torch.logspace(-8, -1, 500, dtype=torch.float64)
    return torch.cat([2 * torch.sin(angles / 2) ** 2, near, 2 - near])


@pytest.mark.parametrize("horizon", HORIZONS)
class TestGaussianMixture:
    def test_is_the_flow_to_a_millionth_of_its_range(self, horizon):
        gap, time = near_and_far_gaps(), torch.tensor(horizon, dtype=torch.float64)
        span = 1 - flow(gap.new_tensor(2.0), time)
        error = gaussian_mixture(horizon)(1 - gap) - flow(gap, time)
        assert (error / span).abs().max() < 1.5e-6

    def test_is_the_contrast_to_a_millionth(self, horizon):
        gap, time = near_and_far_gaps(), torch.tensor(horizon, dtype=torch.float64)
        error = gaussian_mixture(horizon, contrast=True)(1 - gap) - contrast(gap, time)
        assert error.abs().max() < 1.5e-6

    @pytest.mark.parametrize("of_contrast", [False, True])
    def test_is_positive_definite_term_by_term(self, horizon, of_contrast):
        mixture = gaussian_mixture(horizon, of_contrast)
        assert mixture.constant >= 0
        assert mixture.linear >= 0
        assert bool((mixture.even >= 0).all() and (mixture.odd >= 0).all())

    def test_has_the_slopes_of_the_flow_at_both_ends(self, horizon):
        mixture = gaussian_mixture(horizon)
        ends = torch.tensor([1.0, -1.0], dtype=torch.float64, requires_grad=True)
        (slopes,) = torch.autograd.grad(mixture(ends).sum(), ends)
        _, expected, _ = flow_and_slopes(1 - ends.detach(), ends.new_tensor(horizon).detach())
        assert slopes.tolist() == pytest.approx(expected.tolist(), abs=1e-5)
        (steeper,) = torch.autograd.grad(gaussian_mixture(horizon, True)(ends).sum(), ends)
        span = 1 - flow(ends.detach().new_tensor(2.0), ends.detach().new_tensor(horizon))
        assert (span * steeper).tolist() == pytest.approx(expected.tolist(), abs=1e-5)


def test_refuses_horizons_beyond_the_table():
    with pytest.raises(ValueError, match="horizon"):
        gaussian_mixture(2e4)
