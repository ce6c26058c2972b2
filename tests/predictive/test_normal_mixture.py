import numpy as np
import pytest
import torch
from scipy import stats

from resnet_gp.bayes import NormalMixture


@pytest.fixture
def mixture():
    generator = torch.Generator().manual_seed(0)
    means = torch.randn(7, 4, dtype=torch.float64, generator=generator)
    return NormalMixture(means, 0.1 + torch.rand(7, 4, dtype=torch.float64, generator=generator))


def test_moments_density_and_quantiles_are_those_of_the_mixture(mixture):
    mean, sd = mixture.means[:, 0].numpy(), mixture.variances[:, 0].sqrt().numpy()
    draws = mixture.sample(200_000, torch.Generator().manual_seed(1))[:, 0]
    gaps = draws - mixture.mean[0]
    for values, expected in ((gaps, 0.0), (gaps.square(), mixture.variance[0])):
        assert abs(float(values.mean() - expected)) < 4 * float(values.std()) / 200_000**0.5
    y = torch.full((4,), 0.3, dtype=torch.float64)
    density = np.log(np.mean(stats.norm(mean, sd).pdf(0.3)))
    assert float(mixture.log_density(y)[0]) == pytest.approx(density, rel=1e-12)
    levels = torch.tensor([0.05, 0.5, 0.95], dtype=torch.float64)
    found = mixture.quantiles(levels)[0].numpy()
    np.testing.assert_allclose(
        [stats.norm(mean, sd).cdf(q).mean() for q in found], levels, atol=1e-12
    )


def test_it_is_made_of_laws(mixture):
    again = NormalMixture.of(zip(mixture.means, mixture.variances, strict=True))
    assert torch.equal(again.means, mixture.means)
    assert torch.equal(again.variances, mixture.variances)


def test_one_normal_law_is_itself():
    mean, variance = torch.zeros(1, 3).double(), torch.full((1, 3), 4.0).double()
    one = NormalMixture(mean, variance)
    torch.testing.assert_close(one.variance, variance[0])
    torch.testing.assert_close(
        one.quantiles(torch.tensor([0.975], dtype=torch.float64))[:, 0],
        torch.full((3,), 2 * stats.norm.ppf(0.975), dtype=torch.float64),
    )


def test_shapes_and_levels_are_checked(mixture):
    with pytest.raises(ValueError, match=r"shape \(2, 3\) and variances of shape \(2, 4\)"):
        NormalMixture(torch.zeros(2, 3), torch.ones(2, 4))
    with pytest.raises(ValueError, match=r"shape \(3,\) do not match predictions of shape \(4,\)"):
        mixture.log_density(torch.zeros(3))
    with pytest.raises(ValueError, match="between 0 and 1"):
        mixture.quantiles(torch.tensor([1.0]))
