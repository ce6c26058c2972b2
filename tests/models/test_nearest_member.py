import pickle

import pytest
import torch

from resnet_gp import ResNetLimitKernel
from resnet_gp.models.ensemble import ExactMember
from resnet_gp.models.leave_one_out import leave_one_out
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.nearest_member import NearestMember, View

COLUMNS = (0, 2)
DIRECTIONS = torch.tensor([[0.6, -1.6], [0.8, 1.2]], dtype=torch.float64)
VIEWS = [View(COLUMNS), View(COLUMNS, DIRECTIONS)]


def kernel():
    return ResNetLimitKernel(input_bias=True, contrast=True, variance="no_growth").double()


def member(view, n_neighbors=25, n=40):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    y = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    model = NearestRegression(view(x), y, kernel(), n_neighbors)
    model.likelihood.noise = 0.4
    return NearestMember.of(model, view, torch.tensor([2.0, 3.0]).double()), x, y


NEW = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)


def test_a_view_along_directions():
    x = torch.arange(6.0).double().reshape(2, 3)
    assert torch.equal(VIEWS[0](x), x[:, [0, 2]])
    along = VIEWS[1](x)
    torch.testing.assert_close(along[:, 1], -1.6 * x[:, 0] + 1.2 * x[:, 2])
    lengthscale = torch.tensor([2.0, 5.0]).double()
    assert torch.equal(VIEWS[0].lengthscale(lengthscale), lengthscale)
    for column, found in enumerate(VIEWS[1].lengthscale(lengthscale)):
        step = torch.zeros(1, 3).double()
        step[0, COLUMNS[column]] = found
        length = (VIEWS[1](step) / lengthscale).norm()
        torch.testing.assert_close(length, torch.ones_like(length))


@torch.no_grad()
@pytest.mark.parametrize("view", VIEWS)
def test_with_all_rows_it_is_the_exact_member(view):
    ours, x, y = member(view, n_neighbors=40)
    base, own = ours.model.covar_module.base_kernel, view(x)
    covariance = base(own).to_dense()
    scale = covariance.diagonal().mean().item()
    noise = ours.model.likelihood.noise.item() / scale
    weights = leave_one_out(covariance / scale, y, noise).weights
    exact = ExactMember(base, own, weights, scale, noise, scale * ours.outputscale)
    assert ours.noise == pytest.approx(noise, rel=1e-12)
    torch.testing.assert_close(ours.mean(NEW), exact.mean(view(NEW)))
    for one, other in zip(
        ours.mean_and_variance(NEW), exact.mean_and_variance(view(NEW)), strict=True
    ):
        torch.testing.assert_close(one, other)


@pytest.mark.parametrize("view", VIEWS)
def test_tensors_and_pickles_restore_it_to_the_bit(view):
    ours, x, _ = member(view)
    tensors = {name: value.clone() for name, value in ours.tensors().items()}
    for other in (
        NearestMember.from_tensors(tensors, kernel(), x),
        pickle.loads(pickle.dumps(ours)),
    ):
        assert other.noise == ours.noise
        for one, two in zip(ours.mean_and_variance(NEW), other.mean_and_variance(NEW), strict=True):
            assert torch.equal(one, two)
