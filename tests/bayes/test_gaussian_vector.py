import pyro
import pytest
import torch

from resnet_gp.bayes import GaussianVector


def covariance(n=5):
    root = torch.randn(n, n, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    return root @ root.mT + torch.eye(n, dtype=torch.float64)


def test_density_is_that_of_the_normal_law():
    K, y = covariance(), torch.arange(5.0, dtype=torch.float64)
    expected = torch.distributions.MultivariateNormal(torch.zeros(5).double(), K).log_prob(y)
    torch.testing.assert_close(GaussianVector(K).log_prob(y), expected)
    two = GaussianVector(K, 2).log_prob(torch.stack([y, y], 1))
    torch.testing.assert_close(two, 2 * expected)


def test_gradient_in_covariance_and_value():
    y = torch.ones(5, dtype=torch.float64, requires_grad=True)

    def density(root, y):
        return GaussianVector(root @ root.mT + torch.eye(5)).log_prob(y)

    assert torch.autograd.gradcheck(density, (covariance().requires_grad_(), y))


@pytest.mark.parametrize("outputs", [None, 2])
@pytest.mark.parametrize("noise", [None, torch.tensor([3.0, 1.0, 0.5], dtype=torch.float64)])
@pytest.mark.parametrize("scale", [None, torch.tensor(2.0, dtype=torch.float64)])
def test_draws_have_its_moments(outputs, noise, scale):
    pyro.set_rng_seed(0)
    K = covariance(3)
    law = GaussianVector(K, outputs, noise, scale)
    if scale is not None:
        K = 2 * K
    if noise is not None:
        K = K + noise.diag()
    assert torch.equal(law.variance.reshape(3, -1)[:, 0], K.diagonal())
    draws = law.sample((20_000,))
    assert draws.shape[1:] == law.event_shape
    column = draws if outputs is None else draws[..., 1]
    error = (K.diagonal()[:, None] * K.diagonal() + K.square()).sqrt() / 20_000**0.5
    assert ((column.mT @ column / 20_000 - K).abs() < 4.5 * error).all()


@pytest.mark.parametrize("outputs", [None, 2])
def test_conditional_law(outputs):
    joint, noise = covariance(5), torch.tensor([0.3, 0.2, 0.1], dtype=torch.float64)
    y = torch.arange(3.0, dtype=torch.float64)
    value = y if outputs is None else torch.stack([y, -y], 1)
    two = torch.tensor(2.0, dtype=torch.float64)
    law = GaussianVector(joint[:3, :3] / 2, outputs, noise, two)
    mean, variance = law.conditional(value, joint[:3, 3:], joint.diagonal()[3:])
    weights = torch.linalg.solve(joint[:3, :3] + noise.diag(), joint[:3, 3:])
    torch.testing.assert_close(mean, weights.mT @ value)
    expected = joint[3:, 3:] - joint[3:, :3] @ weights
    torch.testing.assert_close(variance, expected.diagonal())


def test_wrong_shapes_are_named():
    with pytest.raises(ValueError, match=r"shape \(4,\) do not fit the covariance.*\(5,\)"):
        GaussianVector(covariance()).log_prob(torch.zeros(4).double())


def test_it_stays_out_of_plates():
    with pyro.plate("rows", 5), pytest.raises(ValueError, match="leave it out of plates"):
        pyro.sample("y", GaussianVector(covariance()))
