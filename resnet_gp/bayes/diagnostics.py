"""Checks of a run, and comparison of models; works with ArviZ 0.x and 1.x."""

from __future__ import annotations

import math
import warnings
from typing import Any

from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from resnet_gp.bayes.draws import Draws

_R_HAT = 1.02
_EFFECTIVE_PER_CHAIN = 50
_FEWEST = 4  # draws of a chain; both halves need a variance


def to_arviz(draws: Draws, log_likelihood: Tensor | None = None) -> Any:
    """Convert draws to ArviZ's ``InferenceData`` (0.x) or ``DataTree`` (1.x).

    Args:
        draws: from ``run_nuts`` or ``run_svi``.
        log_likelihood: pointwise, ``chains x draws x n``, for PSIS-LOO, for instance from
            ``GPRegression.loo_log_likelihood``.

    Raises:
        ImportError: ArviZ is not installed (extra ``bayes``).
    """
    arviz = _arviz()
    groups: dict[str, Any] = {
        "posterior": {name: value.cpu().numpy() for name, value in draws.values.items()},
        "sample_stats": {"diverging": draws.diverging.cpu().numpy()},
    }
    if log_likelihood is not None:
        groups["log_likelihood"] = {"y": log_likelihood.cpu().numpy()}
    if int(arviz.__version__.split(".")[0]) >= 1:
        return arviz.from_dict(groups)
    return arviz.from_dict(**groups)


def _arviz() -> Any:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 0.23 announces 1.0 at every import
            import arviz
    except ImportError as error:
        raise ImportError('ArviZ is needed: pip install "resnet-gp[bayes]"') from error
    return arviz


def compare(models: dict[str, tuple[Draws, Tensor]]) -> Any:
    """Rank models of the same data by PSIS-LOO (Vehtari, Gelman & Gabry 2017).

    The targets of a Gaussian process are not independent given its hyperparameters; take
    ``GPRegression.loo_log_likelihood`` (Buerkner, Gabry & Vehtari 2021).

    Args:
        models: name -> (draws, pointwise log likelihood ``chains x draws x n``).

    Returns:
        ArviZ's table, best model first.

    Raises:
        ValueError: fewer than two models, or different numbers of rows.
    """
    if len(models) < 2:
        raise ValueError("compare needs at least two models")
    rows = {name: log_likelihood.shape[-1] for name, (_, log_likelihood) in models.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"models must be of the same rows of data, got {rows}")
    return _arviz().compare({name: to_arviz(*pair) for name, pair in models.items()})


def r_hat(draws: Draws) -> dict[str, float]:
    """Largest split r-hat of each site (Gelman et al. 2013), where it is defined.

    It is not for a site that is constant or not finite, nor for fewer than four draws a chain.
    """
    return _by_site(split_gelman_rubin, draws, max)


def effective_draws(draws: Draws) -> dict[str, float]:
    """Smallest effective sample size of each site over all chains, where it is defined."""
    found = _by_site(effective_sample_size, draws, min)
    return {name: max(worth, 0.0) for name, worth in found.items()}  # an estimate: may be below 0


def _by_site(statistic: Any, draws: Draws, worst: Any) -> dict[str, float]:
    if draws.num_draws < _FEWEST:
        return {}
    found = {}
    for name, values in draws.values.items():
        entries = values.double()[..., None].flatten(2)
        varying = entries.amax((0, 1)) > entries.amin((0, 1))
        of_entries = statistic(entries[..., varying]).tolist() if varying.any() else []
        known = [one for one in of_entries if not math.isnan(one)]
        if known:
            found[name] = worst(known)
    return found


def _num_stuck(draws: Draws) -> int:
    """How many chains have draws that are all alike, where those of other chains are not."""
    moved = [
        (values.flatten(2).amax(1) > values.flatten(2).amin(1)).any(1)
        for values in (value[..., None].double() for value in draws.values.values())
    ]
    alive = [any(chain) for chain in zip(*(one.tolist() for one in moved), strict=True)]
    return alive.count(False) if any(alive) else 0


def problems(draws: Draws) -> list[str]:
    """The faults of a run, each with its cure; empty for a healthy run."""
    found = []
    if draws.failures:
        listed = "; ".join(f"chain {i}: {why}" for i, why in draws.failures.items())
        failed = len(draws.failures)
        found.append(
            f"{failed} of {failed + draws.num_chains} chains failed and were left out ({listed})"
        )
    if draws.interrupted:
        found.append(
            f"the run was interrupted: {draws.num_chains} chains of {draws.num_draws} draws are "
            "kept"
        )
    if draws.num_divergences:
        found.append(
            f"{draws.num_divergences} trajectories diverged: raise target_acceptance, or give "
            "priors that keep away from extreme values"
        )
    broken = [name for name, value in draws.values.items() if not value.isfinite().all()]
    if broken:
        found.append(
            f"draws of {', '.join(broken)} are not finite: lower learning_rate, or give priors "
            "that keep away from extreme values"
        )
    stuck = _num_stuck(draws)
    if stuck:
        found.append(
            f"{stuck} of {draws.num_chains} chains never moved: give start= values elsewhere, or "
            "raise num_warmup"
        )
    between, worth = r_hat(draws), effective_draws(draws)
    if draws.num_chains > 1 and between:
        name = max(between, key=between.__getitem__)
        if between[name] > _R_HAT:
            found.append(
                f"chains disagree (r-hat {between[name]:.3f} for {name}): raise num_warmup and "
                "num_draws"
            )
    wanted = _EFFECTIVE_PER_CHAIN * draws.num_chains
    if not worth:
        found.append(
            f"the run cannot be judged: no site varies within a chain, or chains have fewer "
            f"than {_FEWEST} draws: raise num_draws"
        )
    elif min(worth.values()) < wanted:
        name = min(worth, key=worth.__getitem__)
        found.append(
            f"the draws of {name} are worth only {worth[name]:.0f} independent ones, at least "
            f"{wanted} are needed: raise num_draws"
        )
    return found


def warn_if_unhealthy(draws: Draws) -> None:
    """Warn once of all problems of a run, if there are any."""
    if draws.values and (found := problems(draws)):
        warnings.warn("; ".join(found), UserWarning, stacklevel=3)


def summary(draws: Draws) -> Any:
    """ArviZ's table: mean, deviation, interval, r-hat and effective draws of each site."""
    return _arviz().summary(to_arviz(draws))
