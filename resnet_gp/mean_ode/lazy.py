"""At large alpha, networks train like their linearisation.

(u, v) at alpha and (u, -v) at -alpha are the same block. So if the law of the units is symmetric in
v, the limit's output is even in alpha: its distance is of order 1/alpha^2, that of units 1/alpha.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from resnet_gp.mean_ode.estimates import distance_check, factor_check, mean_check
from resnet_gp.mean_ode.linearised import LinearisedSweep
from resnet_gp.mean_ode.training import NetworkSweep, Sweep, Trained, train
from resnet_gp.mean_ode.training_lab import Measured, TrainingLab
from resnet_gp.mean_ode.units import Units, even_units, independent_units, skewed_units
from resnet_gp.report.checks import Check
from resnet_gp.report.fits import Array, mean_and_error
from resnet_gp.report.result import COLOURS, Axes, ExperimentResult, guide, size_axes

D = 10
STEPS = 50
ALPHAS = (8.0, 16.0, 32.0)  # for the slopes; feature learning ends near 3
BOUND = 0.06  # allowed between the best alpha's slope and theory, for terms of higher order
DISTANCES = ("units", "output")
POWERS = (1 / 4, 1 / 6)  # of LM in the best alpha for the units, and for the output
SKEWED_D = 4  # small, so that few units suffice for the odd part
SKEWED_ALPHAS = (16.0, 32.0, 64.0)


@dataclass(frozen=True)
class LazyResult(ExperimentResult):
    """Distances to the lazy limit, root mean squares over draws."""

    distances: Array  # of units and of output in the limit of depth, 2 x ALPHAS
    sizes: Array  # LM of networks
    searched: Array  # their alphas
    finite: Array  # distances of networks, 2 x sizes x searched
    best: Array  # alpha of the smallest distance, 2 x sizes
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

    def draw(self, axes: Axes) -> None:
        curves = (
            ("units", ALPHAS, self.distances[0], -1),
            ("output", ALPHAS, self.distances[1], -2),
            ("output, odd part, skewed start", SKEWED_ALPHAS, self.odd, -1),
        )
        for k, (name, x, values, slope) in enumerate(curves):
            axes[0].plot(x, values, "oos"[k] + "-", ms=4, color=COLOURS[k], label=name)
            guide(axes[0], x[::-1], values[-1], slope, ls=":", label=None)
        ticks = [int(alpha) for alpha in sorted({*ALPHAS, *SKEWED_ALPHAS})]
        size_axes(axes[0], ticks, "alpha", title="limit of depth; dotted: slopes -1 and -2")
        axes[0].set_ylabel("distance to the lazy limit")
        axes[0].legend(frameon=False, fontsize=8)
        for row, axis in enumerate(axes[1:]):
            for k, size in enumerate(self.sizes):
                values = self.finite[row, k]
                axis.plot(self.searched, values, color=COLOURS[k], label=f"LM = {size:g}")
                axis.plot(self.best[row, k], values.min(), "v", color=COLOURS[k], ms=7)
                axis.axvline(size ** POWERS[row], color=COLOURS[k], ls="--", lw=0.8)
            size_axes(axis, (1, 2, 4, 8, 16), "alpha", title=f"networks: {DISTANCES[row]}")
        axes[1].set_ylabel("distance; dashed: (LM)^¼")
        axes[2].set_ylabel("distance; dashed: (LM)^⅙")
        axes[2].legend(frameon=False, fontsize=8)


def run(lab: TrainingLab) -> LazyResult:
    kept = lab.keep_all(_measure, {f"lazy-{draw}": (draw,) for draw in range(draws(lab))})
    distances, finite, odd = (
        np.stack([one[key] for one in kept], 1) for key in ("distances", "finite", "odd")
    )
    sizes = np.array([side**2 for side in _sides(lab)], float)
    searched = _searched(lab)
    best = _best(searched, finite)
    checks = [
        _slope_check("units' distance to the lazy limit against alpha", distances[0], -1.0),
        _slope_check("output's distance to the lazy limit against alpha", distances[1], -2.0),
        _slope_check("odd part of the output against alpha, skewed start", odd[0], -1.0),
    ]
    for own, name, power in zip(best, DISTANCES, POWERS, strict=True):
        slopes = np.polyfit(np.log(sizes), np.log(own).T, 1)[0]
        what = f"best alpha for the {name}, slope in LM {{:.3f}}: distance from 1/{1 / power:.0f}"
        checks.append(distance_check(what, slopes, power, BOUND))
    checks.append(_best_size_check(best[0], sizes))
    return LazyResult(
        tuple(checks),
        _root_mean(distances),
        sizes,
        searched,
        _root_mean(finite),
        np.exp(np.log(best).mean(1)),
        _root_mean(odd)[0],
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
        trained = (_train(lab, own, draw, alpha) for alpha in _searched(lab))
        finite.append([_distances(one, own_lazy, lazy) for one in trained])
    return {
        "distances": np.moveaxis(np.array(found), -1, 0),
        "finite": np.moveaxis(np.array(finite), -1, 0),
        "odd": _odd_parts(lab, draw)[None],
    }


def _odd_parts(lab: TrainingLab, draw: int) -> Array:
    """Root mean square of the part of the output odd in alpha, less its noise."""
    seeds, L, M = lab.size((8, 32, 128), (4, 16, 64))
    units = [skewed_units(lab.rng("skewed", draw, s), SKEWED_D, M, L) for s in range(seeds)]
    mirrored = units + [(U, -V) for U, V in units]
    found = []
    for alpha in SKEWED_ALPHAS:
        output, other = _train(lab, mirrored, draw, alpha).output.double().chunk(2)
        found.append(math.sqrt(max(_square_of_mean((output - other) / 2), 0.0)))
    return np.array(found)


def _train(
    lab: TrainingLab,
    units: list[Units],
    draw: int,
    alpha: float,
    sweep: type[Sweep] = NetworkSweep,
) -> Trained:
    data = lab.data(draw, units[0][0].shape[1])
    return train(lab.networks(units, [data] * len(units), alpha), STEPS, sweep)


def _distances(trained: Trained, same_units: Trained, lazy: Trained) -> tuple[float, float]:
    """Distances of displacements to ``same_units`` in lazy training, and of output to ``lazy``."""
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
    return np.sqrt(np.mean(by_draw**2, 1))


def _best(alphas: Array, distances: Array) -> Array:
    """The alpha of the smallest distance, by a parabola through three points, ``draws x sizes``."""
    x, y = np.log(alphas), np.log(distances)
    middle = np.clip(y.argmin(-1), 1, len(x) - 2)
    low, at, high = (np.take_along_axis(y, middle[..., None] + k, -1)[..., 0] for k in (-1, 0, 1))
    shift = (low - high) / (2 * (low - 2 * at + high))
    return np.exp(x[middle] + np.clip(shift, -1, 1) * (x[1] - x[0]))


def _slope_check(name: str, by_draw: Array, target: float) -> Check:
    """Check the slope in alpha, extrapolated from those over two doublings."""
    slopes = np.diff(np.log2(by_draw), axis=1)
    # The error of a slope falls like 1/alpha^2, by a factor of four per doubling.
    return mean_check(name, (4 * slopes[:, 1] - slopes[:, 0]) / 3, target)


def _best_size_check(best: Array, sizes: Array) -> Check:
    """Check that the best alpha for the units is within a factor 3 of (LM)^(1/4)."""
    near, error = mean_and_error(np.log(best / sizes**0.25).mean(1))
    factor = math.exp(near)
    name = "best alpha for the units over (LM)^¼"
    return factor_check(name, factor, factor * error, 1.0, 3.0, len(best))
