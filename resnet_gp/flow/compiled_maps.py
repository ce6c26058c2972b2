"""Maps of the gaps of single pairs in numba: what the compiled loops of all matrices share.

The order of operations in an entry is fixed, whatever else is computed with it.
"""

from __future__ import annotations

import math

from numba import njit

from resnet_gp.flow.vectors import (
    multiply_add,
    quotient,
    separate_arrays,
    square_root,
    wide_vectors,
)

_options = {"nogil": True, "error_model": "numpy"}
#: For the functions that Python calls. Their cached code holds that of all functions they call.
entry = njit(**_options, cache=True, no_cfunc_wrapper=True)
# For compiled code alone: what Python needs to call a function takes as long to compile as it.
_inner = {"no_cpython_wrapper": True, "no_cfunc_wrapper": True}
loops = njit(**_options, **_inner)
#: The same for sums, whose terms may be added in any order.
sums = njit(**_options, **_inner, fastmath={"reassoc", "contract", "nsz"})


@sums
def count_below(values, bound):
    """How many values are below a bound, as a float: this is vectorised."""
    wide_vectors()
    separate_arrays()
    zero, one = values.dtype.type(0), values.dtype.type(1)
    count = zero
    for j in range(len(values)):
        count += one if values[j] < bound else zero
    return count


@loops
def table_variable(gap, kappa, x):
    """x of the table at each gap; a gap above 2 is set to 2."""
    wide_vectors()
    separate_arrays()
    two, root_two = gap.dtype.type(2), gap.dtype.type(math.sqrt(2))
    stretch, one = two + two * kappa, gap.dtype.type(1)
    for j in range(len(gap)):
        g = gap[j]
        g = two if g > two else g
        gap[j] = g
        root = square_root(g)
        below = multiply_add(kappa, root, square_root(two - g) + root_two)
        x[j] = quotient(stretch * root, below) - one


@loops
def _horner(coefficients, x, value):
    """A polynomial with 1 + 4 k coefficients, highest degree first; of those, 8 in one pass."""
    wide_vectors()
    separate_arrays()
    value[:] = coefficients[0]
    first = 1
    if len(coefficients) % 8 == 5:
        c0, c1, c2, c3 = coefficients[1], coefficients[2], coefficients[3], coefficients[4]
        for j in range(len(x)):
            t = x[j]
            p = multiply_add(multiply_add(value[j], t, c0), t, c1)
            value[j] = multiply_add(multiply_add(p, t, c2), t, c3)
        first = 5
    for k in range(first, len(coefficients), 8):
        c0, c1, c2, c3 = (
            coefficients[k],
            coefficients[k + 1],
            coefficients[k + 2],
            coefficients[k + 3],
        )
        c4, c5, c6, c7 = (
            coefficients[k + 4],
            coefficients[k + 5],
            coefficients[k + 6],
            coefficients[k + 7],
        )
        for j in range(len(x)):
            t = x[j]
            p = multiply_add(multiply_add(value[j], t, c0), t, c1)
            p = multiply_add(multiply_add(p, t, c2), t, c3)
            p = multiply_add(multiply_add(p, t, c4), t, c5)
            value[j] = multiply_add(multiply_add(p, t, c6), t, c7)


@loops
def _clenshaw(coefficients, x, value, previous):
    """A Chebyshev series with 1 + 4 k coefficients, highest degree first."""
    wide_vectors()
    separate_arrays()
    zero, two = x.dtype.type(0), x.dtype.type(2)
    value[:] = zero
    previous[:] = zero
    for k in range(0, len(coefficients) - 1, 4):
        c0, c1, c2, c3 = (
            coefficients[k],
            coefficients[k + 1],
            coefficients[k + 2],
            coefficients[k + 3],
        )
        for j in range(len(x)):
            t = two * x[j]
            p, q = value[j], previous[j]
            q = multiply_add(t, p, c0 - q)
            p = multiply_add(t, q, c1 - p)
            q = multiply_add(t, p, c2 - q)
            p = multiply_add(t, q, c3 - p)
            value[j], previous[j] = p, q
    last = coefficients[-1]
    for j in range(len(x)):
        value[j] = multiply_add(x[j], value[j], last - previous[j])


@loops
def polynomial(coefficients, power_basis, x, value, previous):
    zero = x.dtype.type(0)
    lead = 0  # zeros in front pad a short series to the length of others
    while lead + 4 < len(coefficients) and (
        coefficients[lead] == zero
        and coefficients[lead + 1] == zero
        and coefficients[lead + 2] == zero
        and coefficients[lead + 3] == zero
    ):
        lead += 4
    if power_basis:
        _horner(coefficients[lead:], x, value)
    else:
        _clenshaw(coefficients[lead:], x, value, previous)


@loops
def _horner_of_three(coefficients, x, maps):
    """Three polynomials in one pass: their products need not wait for each other."""
    wide_vectors()
    separate_arrays()
    value, slope, speed = maps
    value[:], slope[:], speed[:] = coefficients[0, 0], coefficients[1, 0], coefficients[2, 0]
    for k in range(1, coefficients.shape[1], 4):
        a0, a1, a2, a3 = (
            coefficients[0, k],
            coefficients[0, k + 1],
            coefficients[0, k + 2],
            coefficients[0, k + 3],
        )
        b0, b1, b2, b3 = (
            coefficients[1, k],
            coefficients[1, k + 1],
            coefficients[1, k + 2],
            coefficients[1, k + 3],
        )
        c0, c1, c2, c3 = (
            coefficients[2, k],
            coefficients[2, k + 1],
            coefficients[2, k + 2],
            coefficients[2, k + 3],
        )
        for j in range(len(x)):
            t = x[j]
            p, q, r = value[j], slope[j], speed[j]
            p, q, r = multiply_add(p, t, a0), multiply_add(q, t, b0), multiply_add(r, t, c0)
            p, q, r = multiply_add(p, t, a1), multiply_add(q, t, b1), multiply_add(r, t, c1)
            p, q, r = multiply_add(p, t, a2), multiply_add(q, t, b2), multiply_add(r, t, c2)
            value[j] = multiply_add(p, t, a3)
            slope[j], speed[j] = multiply_add(q, t, b3), multiply_add(r, t, c3)


@loops
def polynomials(table, x, maps, spare):
    """The map and its derivatives, as the tables have them."""
    coefficients, power_basis = table
    if power_basis[0] and power_basis[1] and power_basis[2]:
        _horner_of_three(coefficients, x, maps)
    else:
        for k in range(3):
            polynomial(coefficients[k], power_basis[k], x, maps[k], spare)


@loops
def limit_maps(gap, largest, decrease, maps):
    """From the maps of a ``HorizonTable``, 1 - (1 - c_T) / largest and its derivatives."""
    wide_vectors()
    separate_arrays()
    one, factor = gap.dtype.type(1), gap.dtype.type(0.5)
    value, slope, speed = maps
    inverse = one / largest
    falling = decrease * inverse
    for j in range(len(gap)):
        half, square = gap[j] * factor, value[j] * value[j] * inverse
        cube, relative = square * value[j], gap[j] * square
        slope[j] = cube * slope[j]
        speed[j] = half * square_root(half) * cube * speed[j] - relative * falling
        value[j] = one - relative


@loops
def depth_maps(gap, tangent, maps):
    """From the maps of a ``DepthTable``, its value and derivatives."""
    wide_vectors()
    separate_arrays()
    zero, one, two = gap.dtype.type(0), gap.dtype.type(1), gap.dtype.type(2)
    value, slope, speed = maps
    if tangent:
        for j in range(len(gap)):
            sine = math.sqrt(gap[j] * (two - gap[j]))
            slope[j] = slope[j] / sine if sine > zero else zero
    else:
        for j in range(len(gap)):
            value[j] = one - gap[j] * value[j] * value[j]
            speed[j] = gap[j] * square_root(gap[j]) * speed[j]
