r"""At large alpha, networks train like their linearisation.

In the limit of depth, two distances to the lazy limit are measured with the same units: that of the
units' displacements times alpha, of order 1/alpha (the theorem's rate), and that of the output, of
order 1/alpha^2. The reason is a symmetry: (u, v) at alpha and (u, -v) at -alpha are the same block,
and remain so in training, as step sizes are even in alpha. If the initial law of the units is
symmetric in v, the output of the limit is therefore an even function of alpha, without a term in
1/alpha. As tanh is odd, symmetry in u has the same effect. A law without these symmetries
(``skewed_units``) shows the term: half the difference of the outputs from initial V and -V, the
part odd in alpha.

Networks of LM units also deviate by order alpha / sqrt(LM). The best alpha balances this with the
distance to the lazy limit: (LM)^(1/4) against 1/alpha for the units, as in the theorem's bound, and
(LM)^(1/6) against 1/alpha^2 for the output.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from torch import Tensor

from resnet_gp.mean_ode.estimates import draws_check, factor_check
from resnet_gp.mean_ode.linearised import LinearisedSweep
from resnet_gp.mean_ode.training import NetworkSweep, Trained, train
from resnet_gp.mean_ode.training_lab import Measured, TrainingLab
from resnet_gp.mean_ode.units import Units, even_units, independent_units, skewed_units
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array, mean_and_error
from resnet_gp.report.result import COLOURS, ExperimentResult, guide, size_axis

D = 10
STEPS = 50
ALPHAS = (8.0, 16.0, 32.0)  # for the slopes; feature learning ends near 3
BOUND = 0.06  # allowed between the best alpha's slope and theory, for terms of higher order
POWERS = (1 / 4, 1 / 6)  # of LM in the best alpha for the units, and for the output
SKEWED_D = 4  # small, so that few units suffice for the odd part
SKEWED_ALPHAS = (16.0, 32.0, 64.0)


@dataclass(frozen=True)
class LazyResult(ExperimentResult):
    """Distances to the lazy limit, root mean squares over draws.

    ``output``, ``units_moved``: in the limit of depth, for each of ``alphas``; ``finite_units``,
    ``finite_output``: of networks of ``sizes`` units, ``sizes x searched`` alphas.
    """

    alphas: Array
    output: Array
    units_moved: Array
    sizes: Array
    searched: Array
    finite_units: Array
    finite_output: Array
    best: Array  # alpha of the smallest distance of units, and of output: 2 x sizes
    best_slopes: Array  # of their logarithms in log LM
    best_slopes_errors: Array
    odd: Array  # part of the output odd in alpha, from a skewed start, for each SKEWED_ALPHAS

    name = "lazy"
    title = "Is the lazy limit a kernel machine?"
    theorem = "Chizat 2025, lazy ODE"
    summary = (
        "Networks at large alpha against networks whose blocks are linearised at initialisation, "
        "that is, kernel machines. Units approach them like 1/alpha, the theorem's rate. The "
        "output approaches like 1/alpha², because initialisation symmetric in V makes it an even "
        "function of alpha; from a skewed initialisation it has an odd part, which falls like "
        "1/alpha. Initial noise grows like alpha/√(LM), so that there is a best alpha: (LM)^¼ for "
        "the units, (LM)^⅙ for the output."
    )
    panels = (1, 3)

    def draw(self, axes: Sequence[Any]) -> None:
        skewed = np.array(SKEWED_ALPHAS)
        curves = (
            ("units", self.alphas, self.units_moved, -1),
            ("output", self.alphas, self.output, -2),
            ("output, odd part, skewed start", skewed, self.odd, -1),
        )
        for k, (name, x, values, slope) in enumerate(curves):
            axes[0].plot(x, values, "oos"[k] + "-", ms=4, color=COLOURS[k], label=name)
            guide(axes[0], x[::-1], values[-1], slope, ls=":", label=None)
        axes[0].set(title="limit of depth; dotted: slopes -1 and -2", yscale="log")
        size_axis(axes[0], [int(alpha) for alpha in sorted({*self.alphas, *skewed})], "alpha")
        axes[0].set_ylabel("distance to the lazy limit")
        axes[0].legend(frameon=False, fontsize=8)
        found = (self.finite_units, self.finite_output)
        for row, (axis, name) in enumerate(zip(axes[1:], ("units", "output"), strict=True)):
            values = found[row]
            for k, size in enumerate(self.sizes):
                axis.plot(self.searched, values[k], color=COLOURS[k], label=f"LM = {size:g}")
                axis.plot(self.best[row, k], values[k].min(), "v", color=COLOURS[k], ms=7)
                axis.axvline(size ** POWERS[row], color=COLOURS[k], ls="--", lw=0.8)
            axis.set(yscale="log", title=f"networks: {name}")
            size_axis(axis, (1, 2, 4, 8, 16), "alpha")
        axes[1].set_ylabel("distance; dashed: (LM)^¼")
        axes[2].set_ylabel("distance; dashed: (LM)^⅙")
        axes[2].legend(frameon=False, fontsize=8)


def run(lab: TrainingLab) -> LazyResult:
    kept = lab.keep_all(_measure, {f"lazy-{draw}": (draw,) for draw in range(draws(lab))})
    units, output, odd, finite_units, finite_output = (
        np.array([one[key] for one in kept])
        for key in ("units", "output", "odd", "finite_units", "finite_output")
    )
    sizes = np.array([side**2 for side in _sides(lab)], float)
    searched = _searched(lab)
    best = np.array([_best(searched, one) for one in (finite_units, finite_output)])
    slopes = np.array([np.polyfit(np.log(sizes), np.log(one).T, 1)[0] for one in best])
    checks = (
        _slope_check("units' distance to the lazy limit against alpha", units, -1.0),
        _slope_check("output's distance to the lazy limit against alpha", output, -2.0),
        _slope_check("odd part of the output against alpha, skewed start", odd, -1.0),
        *(
            _best_slope_check(name, own, power)
            for name, own, power in zip(("units", "output"), slopes, POWERS, strict=True)
        ),
        _best_size_check(best[0], sizes),
    )
    return LazyResult(
        checks,
        np.array(ALPHAS),
        _root_mean(output),
        _root_mean(units),
        sizes,
        searched,
        _root_mean(finite_units),
        _root_mean(finite_output),
        np.exp(np.log(best).mean(1)),
        *mean_and_error(slopes.T),
        _root_mean(odd),
    )


def draws(lab: TrainingLab) -> int:
    """Number of data draws."""
    return lab.size(6, 3)


def _sides(lab: TrainingLab) -> tuple[int, ...]:
    """L = M of the networks in the search for the best alpha."""
    return lab.size((16, 32, 64, 128), (16, 32))


def _searched(lab: TrainingLab) -> Array:
    return np.geomspace(1, 16, lab.size(9, 7))


def _measure(lab: TrainingLab, draw: int) -> Measured:
    """Distances to the lazy limit on one data draw."""
    seeds, side = lab.size((4, 64), (2, 32))
    even = [even_units(lab.rng("lazy-limit", draw, s), D, side, side) for s in range(seeds)]
    lazy = _train(lab, even, draw, 1.0, LinearisedSweep)
    found = [_distances(_train(lab, even, draw, alpha), lazy, lazy) for alpha in ALPHAS]
    finite = []
    for size in _sides(lab):
        own = [independent_units(lab.rng("lazy", draw, size, s), D, size, size) for s in range(2)]
        own_lazy = _train(lab, own, draw, 1.0, LinearisedSweep)
        finite.append(
            [_distances(_train(lab, own, draw, a), own_lazy, lazy) for a in _searched(lab)]
        )
    units, output = np.moveaxis(np.array(found), -1, 0)
    finite_units, finite_output = np.moveaxis(np.array(finite), -1, 0)
    return {
        "units": units,
        "output": output,
        "odd": _odd_parts(lab, draw),
        "finite_units": finite_units,
        "finite_output": finite_output,
    }


def _odd_parts(lab: TrainingLab, draw: int) -> Array:
    """Root mean square of the part of the output odd in alpha, less its noise."""
    seeds, L, M = lab.size((8, 32, 128), (4, 16, 64))
    units = [skewed_units(lab.rng("skewed", draw, s), SKEWED_D, M, L) for s in range(seeds)]
    mirrored = units + [(U, -V) for U, V in units]
    data = [lab.data(draw, SKEWED_D)] * len(mirrored)
    found = []
    for alpha in SKEWED_ALPHAS:
        networks = lab.networks(mirrored, data, np.full(len(mirrored), alpha))
        output, other = train(networks, STEPS).output.double().chunk(2)
        found.append(math.sqrt(max(_square_of_mean((output - other) / 2), 0.0)))
    return np.array(found)


def _train(
    lab: TrainingLab,
    units: list[Units],
    draw: int,
    alpha: float,
    sweep: type[NetworkSweep] | type[LinearisedSweep] = NetworkSweep,
) -> Trained:
    count = len(units)
    networks = lab.networks(units, [lab.data(draw, D)] * count, np.full(count, alpha))
    return train(networks, STEPS, sweep)


def _distances(trained: Trained, same_units: Trained, lazy: Trained) -> tuple[float, float]:
    """Root mean square distances of displacements and output.

    Displacements are compared with those of the same units in lazy training, the output with the
    lazy limit.
    """
    moved = [
        (getattr(trained, name) - getattr(same_units, name)).square().mean().item()
        for name in ("displacement_U", "displacement_V")
    ]
    if same_units is lazy:  # the limit itself: take the distance of the mean, less its noise
        square = _square_of_mean(trained.output - lazy.output)
    else:
        square = (trained.output - lazy.output.mean(0)).square().mean().item()
    return math.sqrt(sum(moved) / 2), math.sqrt(max(square, 0.0))


def _square_of_mean(differences: Tensor) -> float:
    """Mean square of the mean over seeds (first axis), less the variance of the mean."""
    noise = differences.var(0).mean() / len(differences)
    return (differences.mean(0).square().mean() - noise).item()


def _root_mean(by_draw: Array) -> Array:
    return np.sqrt(np.mean(by_draw**2, 0))


def _best(alphas: Array, distances: Array) -> Array:
    """The alpha of the smallest distance, by a parabola through three points, ``draws x sizes``."""
    x, y = np.log(alphas), np.log(distances)
    middle = np.clip(y.argmin(-1), 1, len(x) - 2)
    low, at, high = (np.take_along_axis(y, middle[..., None] + k, -1)[..., 0] for k in (-1, 0, 1))
    shift = (low - high) / (2 * (low - 2 * at + high))
    return np.exp(x[middle] + np.clip(shift, -1, 1) * (x[1] - x[0]))


def _slope_check(name: str, by_draw: Array, target: float) -> Check:
    """Check the slope in alpha, extrapolated from those over two doublings.

    The error of a slope falls like 1/alpha^2, by a factor of four per doubling.
    """
    slopes = np.diff(np.log2(by_draw), axis=1)
    limit = mean_and_error((4 * slopes[:, 1] - slopes[:, 0]) / 3)
    return draws_check(name, *limit, target, len(by_draw))


def _best_slope_check(of: str, slopes: Array, power: float) -> Check:
    mean, error = mean_and_error(slopes)
    name = f"best alpha for the {of}, slope in LM {mean:.3f}: distance from 1/{round(1 / power)}"
    return draws_check(name, abs(mean - power), error, BOUND, len(slopes), "at most")


def _best_size_check(best: Array, sizes: Array) -> Check:
    """Check that the best alpha for the units is within a factor 3 of (LM)^(1/4)."""
    near, error = mean_and_error(np.log(best / sizes**0.25).mean(1))
    factor = math.exp(near)
    name = "best alpha for the units over (LM)^¼"
    return factor_check(name, factor, factor * error, 1.0, 3.0, len(best))
