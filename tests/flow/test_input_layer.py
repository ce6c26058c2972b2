import pytest
import torch

from resnet_gp.flow.input_layer import InputLayer, unit_and_scale


def tensor(*shape, seed):
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, dtype=torch.float64, generator=generator)


@pytest.mark.parametrize("variance", ["no_growth", "unit"])
@pytest.mark.parametrize("width", [1, 3])
@pytest.mark.parametrize("bias", [False, True])
@pytest.mark.parametrize("null", [False, True])
def test_closed_forms_are_those_of_autograd(variance, width, bias, null):
    components, n, d = 2, 7, 3
    x = tensor(n, d, seed=0)
    if null:
        x[2] = 0
    lengthscale = tensor(components, 1, width, seed=1).exp().requires_grad_()
    input_bias = tensor(components, 1, 1, seed=2).exp().requires_grad_() if bias else None
    factor = tensor(components, 1, seed=3).exp().requires_grad_()
    layer = InputLayer.of(
        x,
        lengthscale.detach(),
        input_bias if input_bias is None else input_bias.detach(),
        factor.detach(),
        variance,
    )
    unit, length = unit_and_scale(x[None], lengthscale, input_bias, variance)
    size = unit.shape[-1]
    scale = length * factor
    torch.testing.assert_close(layer.unit[..., :size], unit, rtol=1e-14, atol=1e-15)
    assert not layer.unit[..., size:].any()
    torch.testing.assert_close(layer.scale, scale, rtol=1e-14, atol=0)
    by_unit, by_scale = tensor(*layer.unit.shape, seed=4), tensor(*scale.shape, seed=5)
    if null and not bias:
        by_unit[:, 2] = 0  # its direction does not count
    found = layer.gradient(by_unit, by_scale)
    scalar = (by_unit[..., :size] * unit).sum() + (by_scale * scale).sum()
    inputs = [one for one in (lengthscale, input_bias, factor) if one is not None]
    expected = torch.autograd.grad(scalar, inputs)
    for one, other in zip((one for one in found if one is not None), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-11, atol=1e-12)


def test_lengths_that_overflow_are_not_numbers():
    """A correlation with such an input is not known, and is not 0 either."""
    x = torch.tensor([[1e200, 0.0], [1.0, 2.0]], dtype=torch.float64)
    _, scale = unit_and_scale(x, None, None, "unit")
    assert scale.isnan().tolist() == [True, False]
    assert scale[1] == 1
