import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_gp.networks import SampleMoments, Samples


@given(st.lists(st.integers(1, 20), min_size=1, max_size=6), st.integers(0, 2**31))
@settings(max_examples=50, deadline=None)
def test_merged_moments_are_those_of_all_values(sizes, seed):
    values = np.random.default_rng(seed).normal(100, 1, (sum(sizes), 3))
    merged = SampleMoments()
    for part in torch.from_numpy(values).split(sizes):
        merged = merged.merge(SampleMoments.of(part))
    assert merged.count == len(values)
    np.testing.assert_allclose(merged.mean, values.mean(0), rtol=1e-14)
    if len(values) > 1:
        np.testing.assert_allclose(merged.variance, values.var(0, ddof=1), rtol=1e-9, atol=1e-12)
        error = np.sqrt(merged.variance / len(values))
        np.testing.assert_allclose(merged.standard_error, error, rtol=1e-14)


def test_one_network_has_no_standard_error():
    assert np.isnan(SampleMoments.of(torch.ones(1, 2)).standard_error).all()
    assert SampleMoments().merge(SampleMoments()).count == 0


@pytest.mark.parametrize("kind", [SampleMoments, Samples])
def test_state_comes_back(kind):
    statistic = kind.of(torch.randn(5, 2)).merge(kind.of(torch.randn(3, 2)))
    again = kind.from_state(statistic.state())
    assert again.count == statistic.count == 8
    for name, array in statistic.state().items():
        assert np.array_equal(again.state()[name], array)


def test_samples_keep_the_order():
    x = torch.arange(6.0)[:, None]
    merged = Samples().merge(Samples.of(x[:4])).merge(Samples.of(x[4:]))
    assert np.array_equal(merged.values, x.numpy())
