"""The simulated GPU refuses what CUDA refuses, and computes everything else."""

from __future__ import annotations

import threading

import numpy as np
import pytest
import torch
from simulated_device import DEVICE, DeviceError, SimulatedTensor, simulated_cuda

pytestmark = pytest.mark.skipif(torch.cuda.is_available(), reason="there is a real GPU")


@pytest.fixture
def x():
    with simulated_cuda() as device:
        yield torch.arange(12.0, device=device).reshape(3, 4)


CPU = torch.ones(4)
REFUSED = {
    "sum": lambda x: x + CPU,
    "product": lambda x: x @ torch.ones(4, 2),
    "concatenation with a number": lambda x: torch.stack([x[0, 0], torch.tensor(1.0)]),
    "writing to a number": lambda x: torch.tensor(1.0).add_(x[0, 0]),
    "out=": lambda x: torch.mul(x[0], 2, out=torch.empty(4)),
    "indices": lambda x: CPU[torch.tensor([0, 1], device=x.device)],
    "indexed values": lambda x: x.index_put_((torch.tensor([0]),), torch.ones(1, 4)),
    "gathered indices": lambda x: x.gather(0, torch.zeros(1, 4, dtype=torch.long)),
    "another generator": lambda x: x.normal_(generator=torch.Generator()),
    "the default generator": lambda x: torch.randn(3, device=DEVICE, generator=torch.Generator()),
    "a generator of the device": lambda x: CPU.normal_(generator=torch.Generator(DEVICE)),
    "a layer on the CPU": lambda x: torch.nn.Linear(4, 2)(x),
    "a gradient": lambda x: (x.clone().requires_grad_() * 2).sum().backward(torch.ones(1)),
}
ACCEPTED = {
    "a number": lambda x: x * torch.tensor(2.0),
    "where": lambda x: torch.where(x > 1, x, torch.tensor(0.0)),
    "indices on the CPU": lambda x: x[torch.tensor([0, 1])],
    "a list": lambda x: x[[0, 1]],
    "copies": lambda x: x[0].clone().copy_(CPU),
    "to the device": lambda x: CPU.to(x.device) + x[0],
    "like another": lambda x: CPU.to(x) + x.new_tensor([1.0, 2.0, 3.0, 4.0]),
    "a generator": lambda x: x.clone().normal_(generator=torch.Generator(DEVICE)),
    "a layer": lambda x: torch.nn.Linear(4, 2).to(DEVICE)(x),
    "vmap": lambda x: torch.func.vmap(lambda row: row * 2)(x),
    "writing to a view": lambda x: x.clone()[:, 0].fill_(1),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(x, name):
    with pytest.raises((DeviceError, RuntimeError)):
        REFUSED[name](x)


@pytest.mark.parametrize("name", ACCEPTED)
def test_accepted(x, name):
    found = ACCEPTED[name](x)
    assert isinstance(found, SimulatedTensor)
    assert found.device == DEVICE


@pytest.mark.parametrize("convert", [lambda x: x.numpy(), np.asarray, lambda x: np.ones(4).dot(x)])
def test_numpy_does_not_see_the_numbers(x, convert):
    with pytest.raises(TypeError, match="cuda:0"):
        convert(x[0])


def test_the_cpu_sees_them(x):
    assert x.cpu().numpy().sum() == x.sum().item() == sum(map(sum, x.tolist())) == 66
    assert bool((x.to("cpu") == torch.arange(12.0).reshape(3, 4)).all())


def test_gradients_and_writing_to_views(x):
    leaf = x.clone().requires_grad_()
    y = leaf * 1
    y[:, 0] = 5
    y.square().sum().backward()
    expected = 2 * x.cpu()
    expected[:, 0] = 0
    assert torch.equal(leaf.grad.cpu(), expected)


def test_modules_convert_their_numbers(x):
    layer = torch.nn.Linear(4, 2).to(DEVICE).double()
    assert layer.weight.dtype == layer.weight.cpu().dtype == torch.float64
    assert layer(x.double()).dtype == torch.float64


def test_in_a_thread_and_not_afterwards():
    made = []
    with simulated_cuda() as device:
        thread = threading.Thread(target=lambda: made.append(torch.tensor([1.0], device=device)))
        thread.start()
        thread.join()
        assert torch.cuda.is_available()
    assert isinstance(made[0], SimulatedTensor)
    assert not torch.cuda.is_available()
    assert type(torch.Generator()).__module__ == "torch._C"
    with pytest.raises((RuntimeError, AssertionError)):
        torch.zeros(1, device=device)
