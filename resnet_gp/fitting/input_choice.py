"""Whether the ranks of skewed features help as further inputs: by evidence."""

from __future__ import annotations

from dataclasses import replace

from resnet_gp.fitting.inference import Training
from resnet_gp.fitting.kernel_spec import KernelSpec
from resnet_gp.fitting.modes import find_modes_of, most_probable
from resnet_gp.fitting.search import Search

_ROWS = 400


def ranks_are_likelier(plain: Training, ranked: Training, search: Search) -> bool:
    """Whether the inputs with ranks have the larger evidence, on at most 400 rows.

    Both are fitted with one network, the ReLU's limit, and compared by Laplace's approximation.

    Args:
        plain, ranked: the same rows; the inputs of ``ranked`` have further columns.
        search: of the fit to all rows.

    Raises:
        KeyboardInterrupt: Ctrl-C.
    """
    groups = search.spec.groups
    spec = KernelSpec("limit", "relu", None, False, groups=groups)
    own = replace(search, spec=spec, others=(), checkpoint=None, n_restarts=0)
    extra = ranked.x.shape[1] - plain.x.shape[1]
    other = replace(own, spec=spec.with_inputs(extra))
    modes = find_modes_of([(own, plain.sample(_ROWS)), (other, ranked.sample(_ROWS))])
    if any(mode.result.interrupted for mode in modes):
        raise KeyboardInterrupt
    return most_probable(modes).number == 1
