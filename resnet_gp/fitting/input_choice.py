"""Whether the ranks of skewed features help as further inputs: by left-out rows."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import Mode, find_modes_of
from resnet_gp.fitting.search import Search
from resnet_gp.models.posterior import to_array

Array = NDArray[np.float64]

_ROWS = 400
# Standard errors of the mean difference. The evidence alone favoured ranks on yacht, by ten nats,
# where they predict no better.
_ERRORS = 2.0


def ranks_help(plain: Training, ranked: Training, search: Search) -> bool:
    """Whether left-out rows are predicted better with ranks among the inputs, beyond chance.

    Both inputs get one network, the ReLU's limit, at its most probable hyperparameters given at
    most 400 rows. Ranks help if the mean CRPS of these rows, each left out, is smaller by more than
    two standard errors of the paired differences.

    Args:
        plain, ranked: the same rows; the inputs of ``ranked`` have further columns.
        search: of the fit to all rows.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    spec = KernelSpec("limit", "relu", None, False, groups=search.spec.groups)
    own = replace(
        search, spec=spec, others=(), checkpoint=None, n_restarts=0,
        generator=np.random.RandomState(0),
    )  # fmt: skip
    extra = ranked.x.shape[1] - plain.x.shape[1]
    other = replace(own, spec=spec.with_inputs(extra))
    modes = find_modes_of([(own, plain.sample(_ROWS)), (other, ranked.sample(_ROWS))])
    if len(modes) < 2 or any(mode.result.interrupted for mode in modes):
        raise KeyboardInterrupt
    gain = _left_out_scores(modes[0]) - _left_out_scores(modes[1])
    return bool(gain.mean() > _ERRORS * gain.std(ddof=1) / np.sqrt(len(gain)))


def _left_out_scores(mode: Mode) -> Array:
    """CRPS of each row given all others, ``n``; the mean over outputs if there are several."""
    law, y = mode.model.posterior().leave_one_out_law(), to_array(mode.model.train_targets)
    return np.asarray(law.crps(y).reshape(len(y), -1).mean(1))
