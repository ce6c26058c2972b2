"""Triton's kernels compiled for GPUs, without one."""

from __future__ import annotations

import pytest
import torch

pytest.importorskip("triton", reason="triton is an extra")

from scripts import load

from resnet_gp.flow import on_triton

F32, F64 = torch.float32, torch.float64
FLOW, DEPTH, TANGENT = range(3)
MATRIX, MIRRORED, VECTORS = range(3)


@pytest.fixture(scope="module")
def script():
    return load("benchmarks", "gpu_instructions")


def covariance(dtype, plain=False, symmetric=True):
    return on_triton.covariance_variant(dtype, plain, symmetric), dtype


def product(dtype, width, plain=False):
    return on_triton.product_variant(dtype, plain, width), dtype


def gradient(dtype, form, source, features):
    return on_triton.gradient_variant(dtype, form, source, True, features), dtype


# Those with the most registers; ``python benchmarks/gpu_instructions.py --all`` compiles all.
COMPILED = [
    (80, covariance(F32)),
    (80, product(F32, 64)),
    (80, product(F64, 64)),
    (80, gradient(F64, FLOW, VECTORS, 64)),
    (90, product(F32, 64)),
    (90, product(F64, 1)),
    (90, gradient(F32, TANGENT, MATRIX, 64)),
    (90, gradient(F64, DEPTH, MIRRORED, 16)),
    (100, covariance(F64)),
    (100, product(F32, 16, plain=True)),
    (100, gradient(F64, TANGENT, MIRRORED, 64)),
]


@pytest.mark.parametrize(("capability", "variant"), COMPILED, ids=str)
def test_no_spills(script, capability, variant):
    binary = script.compiled(*variant, capability)
    assert binary.stack == 0
    assert binary.registers <= 255


class TestReckoning:
    @pytest.mark.parametrize("symmetric", [True, False])
    def test_takes_at_most_three_times_as_long_as_writing(self, script, symmetric):
        found, binary = script.covariance_counts(F32, symmetric)
        entries = 30_000**2
        times = script.milliseconds(found, entries / 2 if symmetric else entries)
        writing = 1e3 * entries * 4 / script.BANDWIDTH
        assert 0.5 * writing < max(times.values()) <= 3 * writing
        assert binary.stack == 0
        assert binary.registers <= (128 if symmetric else 232)

    def test_counts_what_an_entry_needs(self, script):
        """A product for each dimension, one for each coefficient, and three special functions."""
        variant, dtype = covariance(F32)
        sass = script.compiled(variant, dtype, 90).sass
        entries = 64 * 64 // (32 * variant.warps)
        few, dimensions, terms = (
            script.counts(sass, entries, d, groups) for d, groups in ((8, 3), (16, 3), (8, 4))
        )
        assert 8 <= dimensions["issue"] - few["issue"] <= 32
        assert 4 <= terms["issue"] - few["issue"] <= 8
        assert 3 <= few["special functions"] <= 4
        assert few["float64"] == 0


@pytest.mark.parametrize("variant", [covariance(F64), gradient(F64, FLOW, MIRRORED, 64)], ids=str)
def test_nothing_is_rounded_to_float32(script, variant):
    """As constants of a program may be."""
    assert "f32" not in script.compiled(*variant, 100).intermediate


def test_quick(script, capsys):
    script.main(["--quick"])
    assert "instructions per entry" in capsys.readouterr().out
