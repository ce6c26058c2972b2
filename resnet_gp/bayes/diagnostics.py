"""Is a run healthy, and which model predicts better? ArviZ behind one conversion.

``to_arviz`` is the only place that knows ArviZ, whose versions 0.x and 1.x build their data in
different ways.
"""

from __future__ import annotations

import warnings
from typing import Any

from pyro.ops.stats import effective_sample_size, split_gelman_rubin
from torch import Tensor

from resnet_gp.bayes.draws import Draws

_R_HAT = 1.02
_EFFECTIVE_PER_CHAIN = 50


def to_arviz(draws: Draws, log_likelihood: Tensor | None = None) -> Any:
    """The draws as ArviZ has them: ``InferenceData`` (0.x) or ``DataTree`` (1.x).

    Args:
        draws: of chains or of a guide.
        log_likelihood: pointwise, ``chains x draws x n``, for PSIS-LOO; see
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
    """Models of the same data, ranked by PSIS-LOO: ArviZ's table, best first.

    Vehtari, Gelman & Gabry 2017; for Gaussian processes, whose targets are not independent given
    the hyperparameters, Buerkner, Gabry & Vehtari 2021.

    Args:
        models: by name, draws and pointwise log likelihoods, ``chains x draws x n``.

    Raises:
        ValueError: fewer than two models, or of different data.
    """
    if len(models) < 2:
        raise ValueError("compare needs at least two models")
    rows = {name: log_likelihood.shape[-1] for name, (_, log_likelihood) in models.items()}
    if len(set(rows.values())) > 1:
        raise ValueError(f"models must be of the same rows of data, got {rows}")
    return _arviz().compare({name: to_arviz(*pair) for name, pair in models.items()})


def r_hat(draws: Draws) -> dict[str, float]:
    """The largest split r-hat of each site (Gelman et al. 2013); NaN for fewer than four draws."""
    return {name: _worst(split_gelman_rubin, value, max) for name, value in draws.values.items()}


def effective_draws(draws: Draws) -> dict[str, float]:
    """The smallest effective sample size of each site, over all chains."""
    return {name: _worst(effective_sample_size, value, min) for name, value in draws.values.items()}


def _worst(statistic: Any, values: Tensor, choose: Any) -> float:
    if values.shape[1] < 4:
        return float("nan")
    flat = values.double().flatten(2) if values.dim() > 2 else values.double()[..., None]
    moving = flat.flatten(0, 1).std(0) > 0
    if not moving.any():
        return float("nan")
    return float(choose(statistic(flat[..., moving]).tolist()))


def problems(draws: Draws) -> list[str]:
    """What is wrong with a run, and what to do about it; empty if nothing is."""
    found = []
    if draws.failures:
        listed = "; ".join(f"chain {i}: {why}" for i, why in draws.failures.items())
        found.append(f"{len(draws.failures)} chains failed and were left out ({listed})")
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
    if draws.num_chains > 1:
        name, worst = max(r_hat(draws).items(), key=_value)
        if worst > _R_HAT:
            found.append(
                f"chains disagree (r-hat {worst:.3f} for {name}): raise num_warmup and num_draws"
            )
    name, least = min(effective_draws(draws).items(), key=_value)
    wanted = _EFFECTIVE_PER_CHAIN * draws.num_chains
    if least < wanted:
        found.append(
            f"the draws of {name} are worth {least:.0f} independent ones, {wanted} are wanted: "
            "raise num_draws"
        )
    return found


def _value(item: tuple[str, float]) -> float:
    return item[1] if item[1] == item[1] else 0.0


def warn_if_unhealthy(draws: Draws) -> None:
    """One warning with all problems of a run, if there are any."""
    if draws.values and (found := problems(draws)):
        warnings.warn("; ".join(found), UserWarning, stacklevel=3)


def summary(draws: Draws) -> Any:
    """ArviZ's table of each hyperparameter: mean, deviation, interval, r-hat, effective draws."""
    return _arviz().summary(to_arviz(draws))
