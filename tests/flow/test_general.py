"""The direct path against stored solutions, the recursion and finite networks."""

from __future__ import annotations

import csv
import math
from collections import defaultdict
from pathlib import Path

import pytest
import torch

from resnet_gp.activations import any_activation
from resnet_gp.flow.general import direct_covariance, euler, pair_covariance, variance_path
from resnet_gp.flow.general_covariance import general_covariance

_FIXTURE = Path(__file__).parents[1] / "fixtures" / "general_covariance.csv"
_SMOOTH = {"erf": torch.erf, "gelu": torch.nn.functional.gelu, "tanh": torch.tanh}


def solutions(activation):
    """Stored triples and their covariances, by (w, sigma_b^2)."""
    found = defaultdict(list)
    with _FIXTURE.open() as lines:
        for row in csv.DictReader(lines):
            if row["activation"] == activation:
                numbers = [float(row[c]) for c in ("qa", "qb", "q", "kaa", "kbb", "kab")]
                found[float(row["w"]), float(row["bias"])].append(numbers)
    return {key: torch.tensor(rows, dtype=torch.float64).T for key, rows in found.items()}


@pytest.mark.parametrize("activation", ["erf", "gelu", "relu", "sin"])
def test_stored_solutions(activation):
    for (w, bias), (qa, qb, q, kaa, kbb, kab) in solutions(activation).items():
        hyper = torch.tensor([[w], [bias]], dtype=torch.float64)
        phi, pairs = any_activation(activation), (qa[None], qb[None], q[None])
        (found,) = direct_covariance(phi, *hyper, None, *pairs, symmetric=False)
        assert ((found - kab) / (kaa * kbb).sqrt()).abs().max() <= 1e-10


@pytest.mark.parametrize("activation", ["relu", "erf", "gelu", "sin"])
@pytest.mark.parametrize("depth", [1, 7, 100, 1500])
def test_depth_is_the_recursion(activation, depth):
    phi = any_activation(activation)
    generator = torch.Generator().manual_seed(depth)
    x = torch.randn(12, 3, generator=generator, dtype=torch.float64)
    x[1], x[2] = x[0], -x[0]
    w, bias = torch.tensor(1.3, dtype=torch.float64), torch.tensor(0.2, dtype=torch.float64)
    q = x @ x.T / 3
    for _ in range(depth):
        qa = q.diagonal().clone()
        q = q + (w * phi.moment(qa[:, None], qa, q) + bias) / depth
    found = general_covariance(
        x, x, w, activation=activation, block_bias_variance=bias, depth=depth, path="direct"
    )
    scale = q.diagonal().sqrt()
    error = ((found - q) / (scale[:, None] * scale)).abs().max()
    assert error <= (1e-12 if depth <= 512 else 1e-11)


@pytest.mark.parametrize("depth", [0, -1, 1.5, 10**6 + 1])
def test_depth_out_of_range(depth):
    x = torch.ones(2, 2, dtype=torch.float64)
    with pytest.raises(ValueError, match="depth must be a number of blocks from 1"):
        general_covariance(x, x, torch.tensor(1.0), activation="erf", depth=depth, path="direct")


def test_an_entry_does_not_depend_on_the_others():
    phi, w = any_activation("gelu"), torch.ones(1, dtype=torch.float64)
    qa = torch.tensor([[0.5, 2.0, 30.0]], dtype=torch.float64)
    q = 0.4 * (qa[..., None] * qa).sqrt()
    whole = direct_covariance(phi, w, 0 * w, None, qa, qa, q, False)
    part = direct_covariance(phi, w, 0 * w, None, qa[:, 1:2], qa[:, 2:], q[:, 1:2, 2:], False)
    assert whole[0, 1, 2] == part[0, 0, 0]


def test_coarse_euler_is_not_the_limit():
    qa = torch.ones(1, 1, dtype=torch.float64)
    phi, w = any_activation("erf"), torch.ones(1, dtype=torch.float64)
    path = variance_path(phi, euler(3), qa, w, 0 * w)
    end = pair_covariance(phi, euler(3), path, path, qa, w, 0 * w)
    assert end == path[-1]
    assert (end - direct_covariance(phi, w, 0 * w, None, qa, qa, qa, False)).abs() > 1e-3


@pytest.mark.parametrize("activation", list(_SMOOTH))
def test_finite_networks(activation):
    """z-scores of <Y(a), Y(b)> / n over independent networks; the bias O(1/n) is far below."""
    networks, width, depth = 256, 128, 6
    w, bias = 1.5, 0.3
    generator = torch.Generator().manual_seed(11)
    x = torch.tensor([[1.0, 0.5], [-0.4, 1.3], [0.2, -0.1]], dtype=torch.float64)

    def normal(*shape):
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    hidden = normal(networks, width, 2) @ x.T / math.sqrt(2)
    for _ in range(depth):
        matrix = normal(networks, width, width) * math.sqrt(w / width)
        shift = normal(networks, width, 1) * math.sqrt(bias)
        hidden = hidden + (matrix @ _SMOOTH[activation](hidden) + shift) / math.sqrt(depth)
    samples = hidden.mT @ hidden / width
    error = samples.std(0) / math.sqrt(networks)
    expected = general_covariance(
        x,
        x,
        torch.tensor(w, dtype=torch.float64),
        activation=activation,
        block_bias_variance=torch.tensor(bias, dtype=torch.float64),
        depth=depth,
    )
    assert ((samples.mean(0) - expected) / error).abs().max() < 4
