r"""The loops of ``unit_covariance.py`` in Triton: one program for each tile of the matrix.

An entry is computed in registers, from points to product, by the equations of ``table.py`` and
``depth.py``:

    g = 1 - <u, v>, from the differences where small                                     gap
    x = 2 (1 + kappa) sqrt(g) / (sqrt(2) + sqrt(2 - g) + kappa sqrt(g)) - 1              variable
    K = sum_c scale_u scale_v (1 - g p(x)^2), or p(x) itself for a tangent kernel        value

A program reads no other's results and sums in a fixed order: results are the same at every run, and
an entry's bits depend only on its own row and column. Arrays are C-contiguous:

``u``, ``v``     points, ``b x C x d x n`` and ``b x C x d x m``, n and m here being padded with
                 zeros to a multiple of PADDING, which spares the programs to look for the end
``scale_u, _v``  ``b x C x n`` and ``b x C x m``, padded
``table``        ``(b or 1) x C x width``, with ``table_stride`` 0 for one table for all b: kappa,
                 the largest gap and its decrease as kappa, then each polynomial, of ``1 + GROUP
                 groups`` coefficients, behind whether it is in the power basis and how many of its
                 groups are leading zeros

Tiles have ROWS x COLUMNS entries. Numbers of rows and columns up to 2^31; offsets into matrices
have 64 bits.
"""

from __future__ import annotations

import triton
import triton.language as tl

#: Numbers at the head of a table, and at the head of each of its polynomials.
HEAD, POLYNOMIAL_HEAD = tl.constexpr(3), tl.constexpr(2)

#: Forms of the tabulated maps: c_T of the limit, c_L of finite depth, tangent kernels.
FLOW, DEPTH, TANGENT = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)

#: Where the gradient in an entry comes from: a matrix G, G + G', or products of two vectors.
MATRIX, MIRRORED, VECTORS = tl.constexpr(0), tl.constexpr(1), tl.constexpr(2)

#: Numbers of points are padded to a multiple of this, and of which sides of tiles are divisors.
PADDING = tl.constexpr(128)

_GROUP = tl.constexpr(4)

# One binary for all of them; that of ``covariance`` knows where rows are aligned.
_SIZES = ("table_stride", "n", "m", "d", "components", "groups")
_STRIDES = ("row_stride", "column_stride")


@triton.jit
def _stride(points):
    """``points`` with their padding."""
    return tl.cdiv(points, PADDING) * PADDING


@triton.jit
def _gap(
    u, v, i, j, n, m, d,
    NEAR: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """1 - <u_i, v_j>, at most 2; from the difference below ``NEAR``. n and m are strides."""
    gap = tl.full((ROWS, COLUMNS), 1.0, u.dtype.element_ty)
    a, b = u, v
    for _ in range(0, d):
        gap -= tl.load(a + i)[:, None] * tl.load(b + j)[None, :]
        a += n
        b += m
    if tl.min(gap) < NEAR:
        square = tl.zeros((ROWS, COLUMNS), u.dtype.element_ty)
        a, b = u, v
        for _ in range(0, d):
            step = tl.load(a + i)[:, None] - tl.load(b + j)[None, :]
            square += step * step
            a += n
            b += m
        gap = tl.where(gap < NEAR, square * 0.5, gap)
    return tl.where(gap > 2.0, 2.0, gap)


@triton.jit
def _variable(gap, table):
    """x of the tables, between -1 and 1."""
    kappa = tl.load(table)
    root_two = tl.sqrt(kappa * 0.0 + 2.0)
    root = tl.sqrt(gap)
    return (2.0 + 2.0 * kappa) * root / (tl.sqrt(2.0 - gap) + (root_two + kappa * root)) - 1.0


@triton.jit
def _polynomial(polynomial, x, groups):
    """Horner's rule in the power basis, else Clenshaw's in the Chebyshev basis."""
    power = tl.load(polynomial)
    first = tl.load(polynomial + 1).to(tl.int32)
    coefficient = polynomial + POLYNOMIAL_HEAD + first * _GROUP
    value = tl.zeros_like(x)
    if power != 0:
        value += tl.load(coefficient)
        for _ in range(first, groups):
            value = value * x + tl.load(coefficient + 1)
            value = value * x + tl.load(coefficient + 2)
            value = value * x + tl.load(coefficient + 3)
            value = value * x + tl.load(coefficient + 4)
            coefficient += _GROUP
    else:
        previous = tl.zeros_like(x)
        for _ in range(first, groups):
            previous = 2.0 * x * value + (tl.load(coefficient) - previous)
            value = 2.0 * x * previous + (tl.load(coefficient + 1) - value)
            previous = 2.0 * x * value + (tl.load(coefficient + 2) - previous)
            value = 2.0 * x * previous + (tl.load(coefficient + 3) - value)
            coefficient += _GROUP
        value = x * value + (tl.load(coefficient) - previous)
    return value


@triton.jit
def _value(gap, table, groups, PLAIN: tl.constexpr):
    """The map of the correlations; ``PLAIN`` tables hold it itself."""
    value = _polynomial(table + HEAD, _variable(gap, table), groups)
    if not PLAIN:
        value = 1.0 - gap * value * value
    return value


@triton.jit
def _tile(
    u, v, scale_u, scale_v, table, i, j, n, m, d, components, groups,
    PLAIN: tl.constexpr, NEAR: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """A tile of the covariance of one batch element; 0 outside the matrix. n and m are strides."""
    total = tl.zeros((ROWS, COLUMNS), u.dtype.element_ty)
    for _ in range(0, components):
        gap = _gap(u, v, i, j, n, m, d, NEAR, ROWS, COLUMNS)
        value = _value(gap, table, groups, PLAIN)
        total += tl.load(scale_u + i)[:, None] * tl.load(scale_v + j)[None, :] * value
        u += d.to(tl.int64) * n
        v += d.to(tl.int64) * m
        scale_u += n
        scale_v += m
        table += HEAD + POLYNOMIAL_HEAD + 1 + _GROUP * groups
    return total


@triton.jit(do_not_specialize=["table_stride", "d", "components", "groups", "tiles"])
def covariance(
    u, v, scale_u, scale_v, table, out, table_stride, n, m, d, components, groups,
    tiles, PLAIN: tl.constexpr, SYMMETRIC: tl.constexpr,
    NEAR: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr,
):  # fmt: skip
    """``out``, ``b x n x m``, by ``tiles`` programs for each batch element.

    With ``SYMMETRIC``, the two sets of points are the same and tiles are square: those on and above
    the diagonal are computed, and each is also written to its mirror. Their triangle is folded to a
    rectangle: the k-th row of tiles and the k-th from below together have one more than a side.
    """
    index, b = tl.program_id(0) % tiles, (tl.program_id(0) // tiles).to(tl.int64)
    across = tl.cdiv(m, COLUMNS)
    if SYMMETRIC:
        row, column = index // (across + 1), index % (across + 1)
        below = column >= across - row
        column = tl.where(below, column - 1, row + column)
        row = tl.where(below, across - 1 - row, row)
    else:
        row, column = index // across, index % across
    i, j = row * ROWS + tl.arange(0, ROWS), column * COLUMNS + tl.arange(0, COLUMNS)
    stride_u, stride_v = _stride(n), _stride(m)
    points, others = b * components * stride_u, b * components * stride_v
    total = _tile(
        u + points * d, v + others * d, scale_u + points, scale_v + others,
        table + b * table_stride, i, j, stride_u, stride_v, d, components, groups,
        PLAIN, NEAR, ROWS, COLUMNS,
    )  # fmt: skip
    out += b * n * m
    inside = (i < n)[:, None] & (j < m)[None, :]
    tl.store(out + i.to(tl.int64)[:, None] * m + j[None, :], total, inside)
    if SYMMETRIC and row != column:
        mirror = (j < m)[:, None] & (i < n)[None, :]
        tl.store(out + j.to(tl.int64)[:, None] * n + i[None, :], tl.trans(total), mirror)


@triton.jit(do_not_specialize=[*_SIZES, "batch", "width", "share"])
def product(
    u, v, scale_u, scale_v, table, right, out, table_stride, n, m, d, components, groups,
    batch, width, share,
    PLAIN: tl.constexpr, NEAR: tl.constexpr,
    ROWS: tl.constexpr, COLUMNS: tl.constexpr, WIDTH: tl.constexpr,
):  # fmt: skip
    """K V without K; ``right``, V, is ``b x m x width``.

    Each program has a tile of rows and ``share`` columns of K, a multiple of COLUMNS: ``out``,
    ``shares x b x n x width``, is to be summed. ``WIDTH``, at least ``width``, is 1 or a power
    of two from 16 on.
    """
    tiles = tl.cdiv(n, ROWS)
    element = (tl.program_id(0) // tiles).to(tl.int64)  # of shares x b
    b, start = element % batch, (element // batch).to(tl.int32) * share
    i = (tl.program_id(0) % tiles) * ROWS + tl.arange(0, ROWS)
    stride_u, stride_v = _stride(n), _stride(m)
    points, others = b * components * stride_u, b * components * stride_v
    right += b * m * width
    k = tl.arange(0, WIDTH)
    if WIDTH == 1:
        sums = tl.zeros((ROWS, COLUMNS), u.dtype.element_ty)
    else:
        sums = tl.zeros((ROWS, WIDTH), u.dtype.element_ty)
    for first in range(start, tl.minimum(start + share, m), COLUMNS):
        j = first + tl.arange(0, COLUMNS)
        total = _tile(
            u + points * d, v + others * d, scale_u + points, scale_v + others,
            table + b * table_stride, i, j, stride_u, stride_v, d, components, groups,
            PLAIN, NEAR, ROWS, COLUMNS,
        )  # fmt: skip
        if WIDTH == 1:
            sums += total * tl.load(right + j, j < m, 0.0)[None, :]
        else:
            inside = (j < m)[:, None] & (k < width)[None, :]
            place = right + j.to(tl.int64)[:, None] * width + k[None, :]
            block = tl.load(place, inside, 0.0)
            sums = tl.dot(total, block, sums, input_precision="ieee", out_dtype=sums.dtype)
    out += element * n * width
    if WIDTH == 1:
        tl.store(out + i, tl.sum(sums, 1), i < n)
    else:
        inside = (i < n)[:, None] & (k < width)[None, :]
        tl.store(out + i.to(tl.int64)[:, None] * width + k[None, :], sums, inside)


@triton.jit
def _maps(gap, table, groups, FORM: tl.constexpr):
    """The map and its derivatives in c_0 and in the time, from the table's three polynomials."""
    x = _variable(gap, table)
    polynomial, size = table + HEAD, POLYNOMIAL_HEAD + 1 + _GROUP * groups
    value = _polynomial(polynomial, x, groups)
    slope = _polynomial(polynomial + size, x, groups)
    speed = _polynomial(polynomial + 2 * size, x, groups)
    if FORM == FLOW:
        inverse = 1.0 / tl.load(table + 1)
        square = value * value * inverse
        cube, relative, half = square * value, gap * square, gap * 0.5
        slope = cube * slope
        speed = half * tl.sqrt(half) * cube * speed - relative * (tl.load(table + 2) * inverse)
        value = 1.0 - relative
    elif FORM == DEPTH:
        value = 1.0 - gap * value * value
        speed = gap * tl.sqrt(gap) * speed
    else:
        sine = tl.sqrt(gap * (2.0 - gap))
        slope = tl.where(sine > 0.0, slope / tl.where(sine > 0.0, sine, 1.0), 0.0)
    return value, slope, speed


@triton.jit(do_not_specialize=[*_SIZES, *_STRIDES, "batch", "width", "share"])
def gradient(
    u, v, scale_u, scale_v, table, left, right, by_u, by_scale_u, by_time, table_stride,
    n, m, d, components, groups, row_stride, column_stride, batch, width, share,
    FORM: tl.constexpr, SOURCE: tl.constexpr, UNITS: tl.constexpr,
    NEAR: tl.constexpr, ROWS: tl.constexpr, COLUMNS: tl.constexpr, FEATURES: tl.constexpr,
):  # fmt: skip
    """The chain rule for one side: sums over j of the gradient G_ij in the entries, times

        scale_u scale_v f'(c_0) v_j    in u_i        ``by_u``, ``shares x b x C x n x d``
        scale_v f(c_0)                 in scale_u    ``by_scale_u``, ``shares x b x C x n``
        scale_u scale_v df/dT          in the time   ``by_time``, one number for each program

    G is ``left``, of the strides ``row_stride`` and ``column_stride`` within a batch element; or
    with ``MIRRORED`` G + G'; or with ``VECTORS`` <left_i, right_j>, of ``b x n x width`` and
    ``b x m x width``. Without ``UNITS``, ``by_u`` is left out. The other side's gradient is that of
    the call with sides and strides exchanged.

    Each program has a tile of rows, a block of FEATURES of d, a component, and ``share`` columns as
    in ``product``.
    """
    tiles, blocks = tl.cdiv(n, ROWS), tl.cdiv(d, FEATURES)
    index = tl.program_id(0)
    tile, index = index % tiles, index // tiles
    block, index = index % blocks, index // blocks
    element = index.to(tl.int64)  # of shares x b x C
    c, b = element % components, element // components % batch
    start = (element // components // batch).to(tl.int32) * share
    i, k = tile * ROWS + tl.arange(0, ROWS), block * FEATURES + tl.arange(0, FEATURES)
    row = i < n
    stride_u, stride_v = _stride(n), _stride(m)
    points, others = (b * components + c) * stride_u, (b * components + c) * stride_v
    u += points * d
    v += others * d
    table += b * table_stride + c * (HEAD + 3 * (POLYNOMIAL_HEAD + 1 + _GROUP * groups))
    rows = tl.load(scale_u + points + i)
    if SOURCE == VECTORS:
        left += b * n * width
        right += b * m * width
    else:
        left += b * n * m
    sums = tl.zeros((ROWS, FEATURES), u.dtype.element_ty)
    scales = tl.zeros((ROWS,), u.dtype.element_ty)
    times = tl.zeros((ROWS,), u.dtype.element_ty)
    for first in range(start, tl.minimum(start + share, m), COLUMNS):
        j = first + tl.arange(0, COLUMNS)
        column = j < m
        inside = row[:, None] & column[None, :]
        far_i, far_j = i.to(tl.int64), j.to(tl.int64)
        if SOURCE == VECTORS:
            seen = tl.zeros((ROWS, COLUMNS), u.dtype.element_ty)
            for one in range(0, width):
                a = tl.load(left + far_i * width + one, row, 0.0)
                seen += a[:, None] * tl.load(right + far_j * width + one, column, 0.0)[None, :]
        else:
            place = left + far_i[:, None] * row_stride + far_j[None, :] * column_stride
            seen = tl.load(place, inside, 0.0)
            if SOURCE == MIRRORED:
                place = left + far_i[:, None] * column_stride + far_j[None, :] * row_stride
                seen += tl.load(place, inside, 0.0)
        gap = _gap(u, v, i, j, stride_u, stride_v, d, NEAR, ROWS, COLUMNS)
        value, slope, speed = _maps(gap, table, groups, FORM)
        seen *= tl.load(scale_v + others + j)[None, :]
        scales += tl.sum(seen * value, 1)
        seen *= rows[:, None]
        times += tl.sum(seen * speed, 1)
        if UNITS:
            place = v + k.to(tl.int64)[None, :] * stride_v + j[:, None]
            weight = seen * slope
            other = tl.load(place, (k < d)[None, :], 0.0)
            sums = tl.dot(weight, other, sums, input_precision="ieee", out_dtype=sums.dtype)
    if UNITS:
        features = row[:, None] & (k < d)[None, :]
        place = by_u + (element * n + i.to(tl.int64)[:, None]) * d + k[None, :]
        tl.store(place, sums, features)
    if block == 0:
        tl.store(by_scale_u + element * n + i, scales, row)
        tl.store(by_time + element * tiles + tile, tl.sum(times, 0))
