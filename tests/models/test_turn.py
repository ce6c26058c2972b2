import torch

from resnet_gp.models.turn import Turn

DIRECTIONS = torch.tensor([[0.6, -1.6], [0.8, 1.2]], dtype=torch.float64)
TURN = Turn(3, (0, 2), DIRECTIONS)


def test_inputs_along_directions_follow_the_others():
    x = torch.arange(6.0).double().reshape(2, 3)
    found = TURN.extended(x)
    assert TURN.places == (3, 4)
    assert torch.equal(found[:, :3], x)
    torch.testing.assert_close(found[:, 3], 0.6 * x[:, 0] + 0.8 * x[:, 2])
    torch.testing.assert_close(found[:, 4], -1.6 * x[:, 0] + 1.2 * x[:, 2])


def test_lengthscales_along_a_column_alone():
    lengthscale = torch.tensor([2.0, 5.0]).double()
    for column, found in zip(TURN.columns, TURN.lengthscale(lengthscale), strict=True):
        step = torch.zeros(1, 3).double()
        step[0, column] = found
        length = (TURN.extended(step)[0, 3:] / lengthscale).norm()
        torch.testing.assert_close(length, torch.ones_like(length))


def test_tensors_restore_it():
    other = Turn.from_tensors(TURN.tensors())
    assert other[:2] == TURN[:2]
    assert torch.equal(other.directions, DIRECTIONS)
    assert Turn.from_tensors({}) is None
