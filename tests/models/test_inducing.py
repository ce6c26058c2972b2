import gpytorch
import pytest
import torch

from resnet_gp import ResNetLimitKernel
from resnet_gp.models import cluster_centres, greedy_inducing_points


def inputs(n=60, d=3):
    return torch.randn(n, d, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def kernels():
    ours = gpytorch.kernels.ScaleKernel(ResNetLimitKernel(input_bias=True, ard_num_dims=3)).double()
    return [ours, gpytorch.kernels.RBFKernel().double()]


@pytest.mark.parametrize("kernel", kernels(), ids=["resnet", "rbf"])
def test_each_point_has_the_largest_conditional_variance(kernel):
    x = inputs()
    chosen = greedy_inducing_points(kernel, x, 12)
    with torch.no_grad():
        covariance = kernel(x).to_dense()
    for k, point in enumerate(chosen.tolist()):
        before = chosen[:k]
        cross = covariance[before]
        given = torch.linalg.solve(cross[:, before], cross) if k else cross
        variance = covariance.diagonal() - (cross * given).sum(0)
        assert variance[point] > variance.max() * (1 - 1e-9)
    assert len(set(chosen.tolist())) == 12


def test_all_points_can_be_chosen():
    chosen = greedy_inducing_points(kernels()[0], inputs(20), 20)
    assert sorted(chosen.tolist()) == list(range(20))


def test_stops_where_nothing_is_left_to_explain():
    x = inputs(10)
    chosen = greedy_inducing_points(kernels()[0], x.repeat(3, 1), 30)
    assert sorted(index % 10 for index in chosen.tolist()) == list(range(10))
    linear = gpytorch.kernels.LinearKernel().double()
    assert len(greedy_inducing_points(linear, x, 10)) == 3


def test_says_which_argument_is_wrong():
    kernel, x = kernels()[0], inputs(5)
    for m in (0, 6):
        with pytest.raises(ValueError, match=r"m must be from 1 to the number of rows 5"):
            greedy_inducing_points(kernel, x, m)
    with pytest.raises(ValueError, match="x must be n x d"):
        greedy_inducing_points(kernel, x[:, 0], 2)
    with pytest.raises(ValueError, match="kernel must give one finite variance"):
        greedy_inducing_points(kernel, x.index_fill(0, torch.tensor([1]), torch.nan), 2)
    plain = ResNetLimitKernel().double()  # no input bias: no variance at the origin
    with pytest.raises(ValueError, match="not all of them 0"):
        greedy_inducing_points(plain, torch.zeros_like(x), 2)


def test_cluster_centres_are_closer_to_the_rows_than_rows_are():
    x = inputs(200)
    centres = cluster_centres(x, 20)
    assert centres.shape == (20, 3)
    assert centres.dtype == x.dtype
    assert torch.equal(centres, cluster_centres(x, 20))

    def distance(points):
        return torch.cdist(x, points).min(1).values.square().mean()

    assert distance(centres) < 0.8 * distance(x[:20])


def test_cluster_centres_of_few_distinct_rows_are_those():
    x = inputs(7).repeat(5, 1)
    centres = cluster_centres(x, 10)
    assert len(centres) == 7
    assert torch.cdist(centres, x[:7]).min(1).values.max() == 0
