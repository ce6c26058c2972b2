"""Matrices that are kept for whoever asks again."""

import copy
import pickle

import torch

from resnet_gp.kernels.remembered import LastMatrices


def asked(memory, value, diag=False, dtype=torch.float64):
    """The matrix for an input, and whether it was computed."""
    made = []

    def compute():
        made.append(value)
        return torch.full((2, 2), float(value))

    return memory.get([torch.tensor([value], dtype=dtype)], diag, compute), bool(made)


def test_the_least_recent_matrix_is_dropped():
    memory = LastMatrices(2)
    assert [asked(memory, value)[1] for value in (1, 2, 1, 3, 1, 2)] == [
        True, True, False, True, False, True
    ]  # fmt: skip


def test_inputs_have_to_be_equal_in_all():
    memory = LastMatrices()
    assert asked(memory, 1)[1]
    assert asked(memory, 1, diag=True)[1]
    assert asked(memory, 1, dtype=torch.float32)[1]
    matrix, computed = asked(memory, 1)
    assert not computed
    assert (matrix == 1).all()


def test_what_is_given_out_can_be_changed():
    memory = LastMatrices()
    for _ in range(3):
        matrix, _ = asked(memory, 1)
        assert (matrix == 1).all()
        matrix.zero_()


def test_gradients_are_computed_anew():
    memory = LastMatrices()
    x = torch.ones(1, requires_grad=True)
    first, second = (memory.get([x], False, lambda: x * 2) for _ in range(2))
    assert first.grad_fn is not second.grad_fn
    with torch.no_grad():
        memory.get([x], False, lambda: x * 2)
    assert memory.get([x], False, lambda: x * 3).grad_fn is not None


def test_copies_share_and_files_are_empty():
    memory = LastMatrices(3)
    asked(memory, 1)
    assert not asked(copy.deepcopy(memory), 1)[1]
    again = pickle.loads(pickle.dumps(memory))
    assert asked(again, 1)[1]
    assert again._count == 3
