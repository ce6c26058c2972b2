"""What loops that numba compiles need: wide vectors, sums of products, roots and quotients."""

from __future__ import annotations

import math

import numpy as np
from llvmlite import ir
from numba import types
from numba.extending import intrinsic, overload

_WIDTH = '"prefer-vector-width"="512"'


@intrinsic
def wide_vectors(typing_context):
    """Vectorise the loops of the function that calls this with the processor's widest registers.

    LLVM takes half of the width of AVX-512 by itself, for the sake of processors whose clock it
    slowed down. Where there are no wider registers it changes nothing.
    """

    def code(context, builder, signature, arguments):
        # A set of names that llvmlite knows; this one it does not, and prints as it is.
        builder.function.attributes.add("noinline")
        set.add(builder.function.attributes, _WIDTH)
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def separate_arrays(typing_context):
    """Promise that what the calling function writes to overlaps none of its other arguments.

    Its loops need no tests for that, which take a twelfth of the time to compile.
    """

    def code(context, builder, signature, arguments):
        for argument in builder.function.args[2:]:  # after the result and the exception
            if isinstance(getattr(argument.type, "pointee", None), ir.FloatType | ir.DoubleType):
                argument.add_attribute("noalias")
        return context.get_dummy_value()

    return types.void(), code


@intrinsic
def multiply_add(typing_context, a, b, c):
    """a b + c for floats of one type, rounded once where the processor does that in one step.

    Unlike with ``fastmath={"contract"}``, which of several products is joined to a sum does not
    depend on the surrounding code: a loop's vectors and its remainder give the same bits.
    """
    if not isinstance(a, types.Float) or not a == b == c:
        return None

    def code(context, builder, signature, arguments):
        kind = context.get_value_type(a)
        name, function = "llvm.fmuladd", ir.FunctionType(kind, [kind] * 3)
        return builder.call(builder.module.declare_intrinsic(name, [kind], function), arguments)

    return a(a, a, a), code


_HALF, _ONE = np.float64(0.5), np.float32(1)
_TINY = 1e-37  # normal in float32


def square_root(x):
    """The square root of x + 1e-37 for x in [0, 1e37], of x in float32, in compiled code.

    Processors take a float64's square root in the time of some thirty products. In float64 this
    starts from the reciprocal root in float32, for which x may not be 0, and takes two of Newton's
    steps: it is right to a unit in the last place.
    """
    raise NotImplementedError("only compiled code calls this")


def quotient(a, b):
    """a / b of floats of one type, as ``square_root``, for b in [1e-37, 1e37]."""
    raise NotImplementedError("only compiled code calls this")


@overload(square_root, inline="always")
def _square_root(x):
    if x == types.float32:
        return lambda x: math.sqrt(x)

    def root(x):
        x = x + _TINY
        seed = math.sqrt(np.float32(x))
        half = _HALF * np.float64(_ONE / seed)
        value = np.float64(seed)
        value = multiply_add(multiply_add(-value, value, x), half, value)
        return multiply_add(multiply_add(-value, value, x), half, value)

    return root


@overload(quotient, inline="always")
def _quotient(a, b):
    if b == types.float32:
        return lambda a, b: a / b

    def divided(a, b):
        inverse = np.float64(_ONE / np.float32(b))
        inverse = multiply_add(multiply_add(-b, inverse, 1.0), inverse, inverse)
        value = a * inverse
        return multiply_add(multiply_add(-b, value, a), inverse, value)

    return divided
