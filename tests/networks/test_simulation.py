import numpy as np
import pytest
import torch

from resnet_gp.networks import ResNet, Simulation, TangentSimulation, simulate, simulation
from resnet_gp.threads import torch_threads

INPUTS = torch.tensor([[1.0, 0.5], [-0.4, 1.3]])
SEED = np.random.SeedSequence(7)


def norms(depth, hidden):
    return hidden.square().mean(-1)


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch):
    monkeypatch.setattr(simulation, "_BLOCK", 2**10)


@pytest.fixture
def three_threads():
    with torch_threads(3):
        yield
        assert torch.get_num_threads() == 3


def example(networks=200, **arguments):
    return Simulation("example", ResNet(40, 5), INPUTS, networks, norms, (0, 3, 5), **arguments)


def arrays(results):
    return [a for depth in sorted(results) for a in results[depth].state().values()]


def same(first, second):
    return all(np.array_equal(a, b) for a, b in zip(arrays(first), arrays(second), strict=True))


@pytest.mark.parametrize("sampler", ["exact", "explicit"])
@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.usefixtures("three_threads")
def test_the_memory_budget_does_not_change_a_bit(sampler, keep, monkeypatch):
    one = example(keep=keep, sampler=sampler)
    seen = []
    pool = simulation.ThreadPoolExecutor
    monkeypatch.setattr(
        simulation, "ThreadPoolExecutor", lambda workers: seen.append(workers) or pool(workers)
    )
    block = one.bytes_of_block(torch.float32)
    found = [simulate(one, SEED, memory=memory) for memory in (block, 2 * block, 10 * block)]
    assert seen == [1, 2, 3]
    assert one.blocks > 6
    assert same(found[0], found[1])
    assert same(found[0], found[2])
    assert found[0][5].count == 200


def test_a_budget_below_one_block_is_an_error():
    with pytest.raises(ValueError, match="memory of 0 MiB is too small: example needs"):
        simulate(example(), SEED, memory=100)


def test_seeds():
    assert same(simulate(example(), SEED), simulate(example(), SEED))
    assert not same(simulate(example(), SEED), simulate(example(), np.random.SeedSequence(8)))
    child = SEED.spawn(1)[0]
    assert same(simulate(example(), child), simulate(example(), child))


def test_blocks_have_their_own_random_numbers():
    kept = simulate(example(keep=True), SEED)[5].values
    assert len(np.unique(kept)) == kept.size


def test_progress_adds_up_to_the_cost():
    shares = []
    simulate(example(), SEED, progress=shares.append)
    assert len(shares) > 1
    assert sum(shares) == pytest.approx(example().cost)


class Interrupted(KeyboardInterrupt):
    pass


@pytest.mark.parametrize("keep", [True, False])
def test_interruption_keeps_what_was_done(tmp_path, keep):
    def stop(share, after=[3]):  # noqa: B006
        after[0] -= 1
        if after[0] == 0:
            raise Interrupted

    with pytest.raises(Interrupted):
        simulate(example(keep=keep), SEED, progress=stop, folder=tmp_path)
    shares = []
    resumed = simulate(example(keep=keep), SEED, progress=shares.append, folder=tmp_path)
    assert same(resumed, simulate(example(keep=keep), SEED))
    assert shares[0] >= 3 * example().cost / example().blocks  # the part done before the interrupt
    assert sum(shares) == pytest.approx(example().cost)


def test_a_state_of_another_simulation_is_left_alone(tmp_path):
    simulate(example(networks=100), SEED, folder=tmp_path)
    found = simulate(example(), np.random.SeedSequence(9), folder=tmp_path)
    assert same(found, simulate(example(), np.random.SeedSequence(9)))


def test_depths_and_devices():
    found = simulate(example(), SEED, device=torch.device("cpu"), dtype=torch.float64)
    assert sorted(found) == [0, 3, 5]
    z = (found[0].mean - INPUTS.square().mean(-1).numpy()) / found[0].standard_error
    assert np.abs(z).max() < 4


def test_tangent_kernels_come_in_blocks():
    one = TangentSimulation(
        "tangent", ResNet(20, 3), INPUTS, 100, lambda depth, parts: parts.sum(0).flatten(1)
    )
    assert one.blocks > 2
    assert simulate(one, SEED)[3].mean.shape == (4,)
    assert one.cost == 2 * Simulation("s", ResNet(20, 3), INPUTS, 100, norms).cost


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"networks": 0}, "networks must be at least 1"),
        ({"depths": (6,)}, r"depths must be from 0 to 5, got \(6,\)"),
    ],
)
def test_bad_arguments(arguments, message):
    settings = {"networks": 3, "depths": (1,)} | arguments
    with pytest.raises(ValueError, match=message):
        Simulation("bad", ResNet(4, 5), INPUTS, observe=norms, **settings)
