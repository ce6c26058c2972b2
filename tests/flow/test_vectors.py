"""Arithmetic of compiled loops."""

import math

import numpy as np
import pytest

numba = pytest.importorskip("numba")

from hypothesis import given, settings
from hypothesis import strategies as st

from resnet_gp.flow import vectors

EPS = {np.float64: 2.0**-53, np.float32: 2.0**-24}


@numba.njit
def roots(x, out):
    vectors.wide_vectors()
    for j in range(len(x)):
        out[j] = vectors.square_root(x[j])


@numba.njit
def quotients(a, b, out):
    vectors.wide_vectors()
    for j in range(len(a)):
        out[j] = vectors.quotient(a[j], b[j])


@numba.njit
def sums(a, b, c, out):
    vectors.wide_vectors()
    for j in range(len(a)):
        out[j] = vectors.multiply_add(a[j], b[j], c[j])


def of(function, *arrays):
    out = np.empty_like(arrays[0])
    function(*arrays, out)
    return out


@pytest.mark.parametrize("dtype", EPS)
@given(st.lists(st.floats(1e-20, 1e30), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_square_roots_are_right_to_the_last_place(dtype, values):
    x = np.array(values, dtype)
    assert np.abs(of(roots, x) / np.sqrt(x) - 1).max() <= 2 * EPS[dtype]


@pytest.mark.parametrize("dtype", EPS)
@given(st.lists(st.tuples(st.floats(-8, 8), st.floats(1e-12, 1e12)), min_size=1, max_size=40))
@settings(max_examples=100, deadline=None)
def test_quotients_are_right_to_the_last_place(dtype, values):
    a, b = np.ascontiguousarray(np.array(values, dtype).T)
    exact = a / b
    # The last place is larger than the first term only below the smallest normal number.
    bound = np.maximum(4 * EPS[dtype] * np.abs(exact), np.spacing(np.abs(exact)))
    assert (np.abs(of(quotients, a, b) - exact) <= bound).all()


def test_the_square_root_of_nothing_is_next_to_nothing():
    assert of(roots, np.zeros(20))[3] == pytest.approx(math.sqrt(1e-37), rel=1e-15)
    assert of(roots, np.zeros(20, np.float32))[3] == 0


@pytest.mark.parametrize("dtype", EPS)
@pytest.mark.parametrize("size", [1, 7, 8, 33, 100])
def test_vectors_and_remainders_have_the_same_bits(dtype, size):
    a, b, c = np.random.default_rng(0).uniform(0.1, 2, (3, size)).astype(dtype)
    for function, arrays in ((roots, [a]), (quotients, [a, b]), (sums, [a, b, c])):
        together = of(function, *arrays)
        alone = [of(function, *(x[j : j + 1].copy() for x in arrays))[0] for j in range(size)]
        np.testing.assert_array_equal(together, alone)


@pytest.mark.parametrize("dtype", EPS)
def test_sums_of_products(dtype):
    a, b, c = np.random.default_rng(1).normal(size=(3, 50)).astype(dtype)
    error = of(sums, a, b, c) - (a * b + c)
    assert np.abs(error).max() <= 4 * EPS[dtype] * np.abs(a * b).max()


@numba.njit
def apart(a, b, c, out):
    vectors.separate_arrays()
    for j in range(len(a)):
        out[j] = vectors.multiply_add(a[j], b[j], c[j])


@pytest.mark.parametrize("dtype", EPS)
def test_loops_of_separate_arrays_have_the_same_bits_and_no_tests_for_overlap(dtype):
    arrays = np.random.default_rng(0).normal(size=(3, 1001)).astype(dtype)
    np.testing.assert_array_equal(of(apart, *arrays), of(sums, *arrays))
    checked, unchecked = (
        "vector.memcheck" in "".join(one.inspect_llvm().values()) for one in (sums, apart)
    )
    assert checked
    assert not unchecked
