import pickle

import pytest
import torch

from resnet_gp import ResNetLimitKernel
from resnet_gp.models.ensemble import ExactMember
from resnet_gp.models.leave_one_out import leave_one_out
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.nearest_member import NearestMember

COLUMNS = (0, 2)


def kernel():
    return ResNetLimitKernel(input_bias=True, contrast=True, variance="no_growth").double()


def member(n_neighbors=25, n=40):
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(n, 3, dtype=torch.float64, generator=generator)
    y = torch.randn(n, 2, dtype=torch.float64, generator=generator)
    model = NearestRegression(x[:, COLUMNS], y, kernel(), n_neighbors)
    model.likelihood.noise = 0.4
    return NearestMember.of(model, COLUMNS, torch.tensor([2.0, 3.0]).double()), x, y


NEW = torch.linspace(-1, 1, 15, dtype=torch.float64).reshape(5, 3)


@torch.no_grad()
def test_with_all_rows_it_is_the_exact_member():
    ours, x, y = member(n_neighbors=40)
    base, own = ours.model.covar_module.base_kernel, x[:, COLUMNS]
    covariance = base(own).to_dense()
    scale = covariance.diagonal().mean().item()
    noise = ours.model.likelihood.noise.item() / scale
    weights = leave_one_out(covariance / scale, y, noise).weights
    exact = ExactMember(base, own, weights, scale, noise, scale * ours.outputscale)
    assert ours.noise == pytest.approx(noise, rel=1e-12)
    torch.testing.assert_close(ours.mean(NEW), exact.mean(NEW[:, COLUMNS]))
    for one, other in zip(
        ours.mean_and_variance(NEW), exact.mean_and_variance(NEW[:, COLUMNS]), strict=True
    ):
        torch.testing.assert_close(one, other)


def test_tensors_and_pickles_restore_it_to_the_bit():
    ours, x, _ = member()
    tensors = {name: value.clone() for name, value in ours.tensors().items()}
    for other in (
        NearestMember.from_tensors(tensors, kernel(), x),
        pickle.loads(pickle.dumps(ours)),
    ):
        assert other.noise == ours.noise
        for one, two in zip(ours.mean_and_variance(NEW), other.mean_and_variance(NEW), strict=True):
            assert torch.equal(one, two)
