"""Which inference a regression can afford."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import replace
from typing import Literal

import torch
from gpytorch.kernels import Kernel

from resnet_gp.fitting.exact import Exact
from resnet_gp.fitting.inference import Inference
from resnet_gp.fitting.kernel_spec import KernelSpec, takes_whole_inputs

InferenceName = Literal["auto", "exact", "nearest", "sparse"]
HyperparametersName = Literal["auto", "laplace", "map", "ml", "nuts", "fixed"]

#: Most rows for which, by default, hyperparameters are integrated out and the number of components
#: is chosen by evidence: a fit takes about half a minute there (docs/choose.md).
INTEGRATED_ROWS = 1000

# Exact inference, where the user sets no limit: n x n matrices alive at the peak, their share of
# the memory, and the rows that take minutes to factorise.
_MATRICES, _MEMORY_SHARE = 3, 0.5
_EXACT_ROWS = {"cpu": 5000, "cuda": 30_000}


def choose_inference(
    asked: str,
    n: int,
    others: Sequence[Inference],
    max_exact_samples: int | None,
    device: torch.device,
    dtype: torch.dtype,
) -> Inference:
    """The inference of this name; for "auto", exact if memory and patience allow.

    Args:
        asked: the estimator's parameter ``inference``.
        n: rows.
        others: inferences that are not exact, as they are wanted; the first is that of "auto" for
            more rows.
        max_exact_samples: the most rows for exact inference; None for a limit from the memory.
        device, dtype: of the matrices.

    Raises:
        ValueError: "exact" is asked for with more rows than the limit.
    """
    limit = max_exact_samples or _exact_limit(device, dtype)
    if asked == "exact" and n > limit:
        needed = _MATRICES * n**2 * dtype.itemsize
        raise ValueError(
            f"exact inference on {n} samples would need about {needed:.3g} bytes "
            f"({needed / 2**30:.1f} GiB) and is refused above {limit}; "
            f'set inference="{others[0].name}" or raise max_exact_samples'
        )
    if asked == "auto":
        asked = Exact.name if n <= limit else others[0].name
    return next(one for one in (Exact(), *others) if one.name == asked)


def _exact_limit(device: torch.device, dtype: torch.dtype) -> int:
    """The most rows whose matrices take a moderate share of the memory, and minutes."""
    if device.type == "cuda":
        memory = torch.cuda.get_device_properties(device).total_memory
    elif hasattr(os, "sysconf") and "SC_PHYS_PAGES" in os.sysconf_names:
        memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    else:
        memory = 8 * 2**30
    by_memory = int((memory * _MEMORY_SHARE / (_MATRICES * dtype.itemsize)) ** 0.5)
    return min(by_memory, _EXACT_ROWS.get(device.type, by_memory))


def choose_hyperparameters(
    asked: HyperparametersName, n: int, kernels: Sequence[KernelSpec], inference: Inference
) -> HyperparametersName:
    """What becomes of the hyperparameters; for "auto", "laplace" where it takes seconds, or "map".

    Args:
        asked: the estimator's parameter ``hyperparameters``.
        n: rows.
        kernels: to fit.
        inference: what ``choose_inference`` found.

    Raises:
        ValueError: "laplace" or "nuts" is asked for with inference that is not exact.
    """
    exact = inference.name == Exact.name
    if asked in ("laplace", "nuts") and not exact:
        raise ValueError(
            f'hyperparameters="{asked}" needs exact inference, but these {n} rows are fitted by '
            f'inference="{inference.name}"'
        )
    if asked != "auto":
        return asked
    quick = n <= INTEGRATED_ROWS and all(map(_is_quick, kernels))
    return "laplace" if exact and quick else "map"


def choose_components(
    kernels: Sequence[KernelSpec], asked: Literal[1, 2, "auto"], n: int, inference: Inference
) -> list[KernelSpec]:
    """The kernels with the numbers of components to compare.

    Args:
        kernels: of one component.
        asked: the estimator's parameter ``n_components``. For "auto", one and two up to a thousand
            rows and with inference that leaves rows out; two for more rows with other inference,
            where it was the better choice on nearly all sets; one for kernels that cannot have two,
            or only slowly.
        n: rows.
        inference: what ``choose_inference`` found.

    Raises:
        ValueError: two components are asked for, and a kernel cannot have them; or ``asked`` is
            something else.
    """
    if isinstance(asked, bool) or asked not in (1, 2, "auto"):
        raise ValueError(f'n_components must be 1, 2 or "auto", got {asked!r}')
    found = []
    for kernel in kernels:
        if asked != "auto":
            counts = [asked]
        elif isinstance(kernel.kernel, Kernel) or not _is_quick(kernel):
            counts = [1]
        else:
            counts = [1, 2] if n <= INTEGRATED_ROWS or inference.leaves_rows_out else [2]
        found += [replace(kernel, n_components=count) for count in counts]
    return found


def _is_quick(spec: KernelSpec) -> bool:
    """Whether a new value of the hyperparameters needs no table that takes long."""
    of_the_limit = spec.kernel == "limit" and spec.depth is None and spec.is_homogeneous
    if takes_whole_inputs(spec.kernel):  # once per value of its own hyperparameters, if it has any
        return spec.is_fixed
    return isinstance(spec.kernel, Kernel) or of_the_limit
