"""Whether other inputs than the features help: by rows that are left out.

Inputs are compared with one network, the ReLU's limit, at its most probable hyperparameters given
some rows. They are taken if the mean CRPS of other rows is smaller, by more than two standard
errors of the paired differences. If there are many more rows, all have the last word: a fit of
nearest neighbours must predict left-out rows better. What helps few rows need not help many, whose
fine structures are not seen before: directions of 1000 rows raised the CRPS on power by 9 %, ranks
that helped 400 rows that on protein by 1 %. The evidence alone favoured ranks on yacht, by ten
nats, where they predict no better, and other directions on boston, where they predict worse.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.directions import gradient_directions
from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import Mode, find_modes_of
from resnet_gp.fitting.nearest import Here, Nearest, RowSource
from resnet_gp.fitting.search import Search
from resnet_gp.flow.domain import IMPOSSIBLE
from resnet_gp.models.posterior import to_array
from resnet_gp.models.training_rows import shuffled
from resnet_gp.predictive.law import Law

Array = NDArray[np.float64]

_RANKED_ROWS = 400
_DIRECTED_ROWS = 1000  # that learn directions; as many more test them
_MANY_ROWS = 2000  # beyond, all rows have the last word
_TESTED_SHARE = 0.25  # of fewer rows
_ROUNDS = 3
_TURNED_ABOVE = 500  # rows
_ERRORS = 2.0  # standard errors of the mean difference


def checked_choice(name: str, value: Any) -> Literal["auto"] | bool:
    """An argument that chooses inputs; ValueError unless it is "auto", True or False."""
    if isinstance(value, str) and value == "auto":
        return "auto"
    if type(value) not in (bool, np.bool_):
        raise ValueError(f'{name} must be "auto", True or False, got {value!r}')
    return bool(value)


def ranks_help(plain: Training, ranked: Training, search: Search) -> bool:
    """Whether left-out rows are predicted better with ranks among the inputs, beyond chance.

    Both inputs get at most 400 rows, each of which is left out in turn. All of more than 2000 rows
    have the last word.

    Args:
        plain, ranked: the same rows; the inputs of ``ranked`` have further columns.
        search: of the fit to all rows.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    own = _one_network(search)
    extra = ranked.x.shape[1] - plain.x.shape[1]
    other = replace(own, spec=own.spec.with_inputs(extra))
    rows = (plain.sample(_RANKED_ROWS), ranked.sample(_RANKED_ROWS))
    try:
        modes = _modes([(own, rows[0]), (other, rows[1])])
    except IMPOSSIBLE:
        return False
    before, after = (
        _crps_of_rows(mode.model.posterior().leave_one_out_law(), mode.model.train_targets)
        for mode in modes
    )
    if not is_better(before, after):
        return False
    return len(plain) <= _MANY_ROWS or _helps_all(Here(plain), own, Here(ranked), other)


def may_choose(search: Search) -> bool:
    """Whether a search leaves the inputs to choose: it has kernels of ours, and learns them."""
    return not search.fixed and all(spec.is_ours for spec in (search.spec, *search.others))


def helpful_directions(
    source: RowSource, search: Search, choice: Literal["auto"] | bool = "auto"
) -> Array | None:
    """Principal directions of the gradient, if inputs along them predict better beyond chance.

    At most 1000 rows learn the directions, and other rows, as many or a quarter of all, are
    predicted from them: rows that the directions know would favour them. A network of the new
    inputs has a gradient that is known better, and so directions of its own: there are three
    rounds, as long as each helps. All of more than 2000 rows have the last word.

    Args:
        source: of at least 2 rows.
        search: of the fit to all rows.
        choice: "auto" tries beyond 500 rows; True takes the directions of the first round,
            whether they help or not.

    Returns:
        Directions, ``d x d``, see ``gradient_directions``; None for the inputs as they are.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    tried = choice == "auto" and len(source) > _TURNED_ABOVE and may_choose(search)
    if not (choice is True or tried):
        return None
    training = source.sample(_MANY_ROWS)
    n = len(training)
    if training.x.shape[1] == 1:
        return None
    learning = min(_DIRECTED_ROWS, n - max(1, round(_TESTED_SHARE * n)))
    numbers = torch.from_numpy(shuffled(n))
    rows, others = training.rows(numbers[:learning]), training.rows(numbers[learning:])
    own = _one_network(search)
    other = replace(own, spec=own.spec.ungrouped())
    (mode,) = _modes([(own, rows)])
    scores = _crps_of_rows(mode.model.posterior().law(others.x), others.y)
    found: Array | None = None
    for number in range(_ROUNDS):
        turn = gradient_directions(mode.model.posterior(), mode.model.train_inputs[0])
        if turn is None:
            break
        directions = turn if found is None else found @ turn
        turned = rows.x.new_tensor(directions)
        (mode,) = _modes([(other, replace(rows, x=rows.x @ turned))])
        before = scores
        scores = _crps_of_rows(mode.model.posterior().law(others.x @ turned), others.y)
        if not (is_better(before, scores) or (choice is True and number == 0)):
            break
        found = directions
    if found is None or choice is True or len(source) <= _MANY_ROWS:
        return found
    return found if _helps_all(source, own, source.turned(found), other) else None


def _helps_all(plain: RowSource, own: Search, other: RowSource, others: Search) -> bool:
    """Whether other inputs predict left-out rows better when one network is learned from all."""
    nearest = Nearest()
    learned = nearest.learn_from(plain, own), nearest.learn_from(other, others)
    if any(one.result.interrupted for one in learned):
        raise KeyboardInterrupt
    return learned[1].score < learned[0].score


def _one_network(search: Search) -> Search:
    """A search for the hyperparameters of one network."""
    spec = KernelSpec("limit", "relu", None, False, groups=search.spec.groups)
    return replace(
        search, spec=spec, others=(), checkpoint=None, n_restarts=0,
        generator=np.random.RandomState(0),
    )  # fmt: skip


def _modes(searches: Sequence[tuple[Search, Training]]) -> list[Mode]:
    """The mode of each search.

    Raises:
        KeyboardInterrupt: Ctrl-C.
        torch.linalg.LinAlgError: a covariance could not be factorised.
    """
    modes = find_modes_of(searches)
    if any(mode.result.interrupted for mode in modes):
        raise KeyboardInterrupt
    if len(modes) < len(searches):
        raise torch.linalg.LinAlgError("no covariance of these inputs could be factorised")
    return modes


def _crps_of_rows(law: Law, targets: Tensor) -> Array:
    """CRPS of each row, ``n``; the mean over outputs if there are several."""
    y = to_array(targets)
    return np.asarray(law.crps(y).reshape(len(y), -1).mean(1))


def is_better(plain: Array, other: Array) -> bool:
    """Whether the mean of the other scores is smaller by more than two standard errors."""
    gain = plain - other
    return len(gain) > 1 and bool(gain.mean() > _ERRORS * gain.std(ddof=1) / np.sqrt(len(gain)))
