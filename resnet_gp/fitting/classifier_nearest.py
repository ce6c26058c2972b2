"""Fit a classifier that conditions each prediction on its nearest rows, for any number of rows."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from typing import Any

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.classifier_search import (
    NOISE_LEVELS,
    ClassifierFit,
    Problem,
    Solution,
    spread_rows,
)
from resnet_gp.fitting.kernel_search import search
from resnet_gp.fitting.kernel_settings import KernelSetting, make_kernel
from resnet_gp.fitting.kernel_spec import KernelSpec, Start
from resnet_gp.fitting.nearest import learn
from resnet_gp.fitting.optimiser import set_raw
from resnet_gp.fitting.search import Search
from resnet_gp.kernels.resnet_kernel import ResNetKernel
from resnet_gp.models.calibration import Link, class_scores, log_loss
from resnet_gp.models.ensemble import Ensemble
from resnet_gp.models.nearest import sample_rows
from resnet_gp.models.nearest_classification import NearestClassification
from resnet_gp.models.nearest_member import NearestMember
from resnet_gp.models.nearest_posterior import NearestPosterior
from resnet_gp.models.neighbourhoods import Neighbourhoods

_LOGGER = logging.getLogger("resnet_gp")

# Rows, other than those of the search where there are enough, whose left-out means choose among
# kernels and numbers of neighbours, and give the link.
_CHOICE_ROWS = 3000
# Neighbours with which kernels are compared.
_FIRST_NEIGHBORS = 64
# Numbers of neighbours to choose from, the first within this share of the least log-loss.
_NEIGHBORS, _WITHIN = (64, 128, 256), 0.005
# Lengthscales of a start without input bias, in standard deviations: they make the bias small.
_SHORT = 0.3


@dataclass(frozen=True)
class NearestFit(ClassifierFit):
    """Maximises the likelihood of left-out labels, each given its nearest rows.

    The network at initialisation and the trained one are both fitted, each from the kernel of the
    grid that predicts some of the rows best. A kernel sees both encodings of columns of few values,
    and its lengthscales weigh them.

    Attributes:
        n_neighbors: of a prediction; None for a number that left-out rows choose.
    """

    n_neighbors: int | None
    name, member = "nearest", NearestMember

    def views(self, blocks: Sequence[tuple[int, ...]]) -> list[tuple[int, ...]]:
        return [tuple(sorted({column for block in blocks for column in block}))]

    def kernel(self, setting: KernelSetting, given: Kernel | None) -> Kernel:
        if given is not None:
            return make_kernel(setting, given)
        return _spec(setting, given).build(len(setting.active_dims))

    def steps(self, settings: Sequence[KernelSetting]) -> int | None:
        return None  # each search ends when it ends

    def solve(self, problem: Problem) -> Solution:
        held_out = _HeldOut.of(problem)
        fitted = []
        for setting, model in self._models(problem):
            loss = held_out.log_loss(model.posterior())
            _LOGGER.info("%s: log-loss %.4f of left-out labels", setting.name, loss)
            fitted.append((loss, setting, model))
        _, setting, model = min(fitted, key=lambda one: one[0])
        model.n_neighbors = self._neighbors(model, held_out)
        found = held_out.neighbourhoods(model.posterior())
        outputscale = found.z[..., -1].square().mean(0)  # of the highest density
        member = NearestMember.of(model, setting.active_dims, outputscale)
        link = Link.fit(held_out.scores(found), held_out.labels)
        ensemble = Ensemble([member], torch.ones_like(outputscale[:1]), model.offset)
        own = _own_kernel(model, problem)
        attributes: dict[str, Any] = {"n_neighbors_": model.n_neighbors}
        if own is not None:
            setting = setting._replace(
                horizon=own.horizon.item(), input_bias_variance=own.input_bias_variance.item()
            )
            attributes["lengthscale_"] = own.lengthscale.detach().numpy().ravel()
        return Solution(ensemble, [setting], link, attributes)

    def _models(self, problem: Problem) -> Iterator[tuple[KernelSetting, NearestClassification]]:
        """A learned model of each kind of kernel."""
        targets = problem.targets
        offset = targets.mean(0)
        centred = targets - offset
        rows = spread_rows(problem.labels.numpy(), problem.generator)
        for _, group in groupby(problem.settings, key=lambda setting: setting.name):
            settings = list(group)
            own = replace(problem, settings=settings).kernels()
            tick = problem.bar.update
            best = search(own, problem.x[rows], centred[rows], NOISE_LEVELS, 1, tick)[0]
            setting = settings[best.index]
            x = problem.x[:, setting.active_dims]
            kernel = self.kernel(setting, problem.given)
            model = NearestClassification(x, centred, offset, kernel, _FIRST_NEIGHBORS)
            scores = class_scores(best.held_out.mean + offset)
            model.link = Link.fit(scores, problem.labels[torch.from_numpy(rows)])
            _learn(model, problem, setting, best.noise)
            yield setting, model

    def _neighbors(self, model: NearestClassification, held_out: _HeldOut) -> int:
        """The least number of neighbours whose log-loss is close to the best one's."""
        posterior, most = model.posterior(), len(model.train_x) - 1
        choices = _NEIGHBORS if self.n_neighbors is None else (self.n_neighbors,)
        counts = sorted({min(k, most) for k in choices})
        if len(counts) == 1:
            return counts[0]
        losses = [held_out.log_loss(posterior.replace(n_neighbors=k)) for k in counts]
        _LOGGER.info("log-losses %s with %s neighbours", np.round(losses, 4), counts)
        close = (1 + _WITHIN) * min(losses)
        return next(k for k, loss in zip(counts, losses, strict=True) if loss <= close)


@dataclass(frozen=True)
class _HeldOut:
    """Rows whose labels judge what their neighbours say.

    Attributes:
        rows: their numbers, ``m``.
        targets: of +-1, ``m x p``.
        labels: ``m``.
    """

    rows: NDArray[np.intp]
    targets: Tensor
    labels: Tensor

    @classmethod
    def of(cls, problem: Problem) -> _HeldOut:
        rows = sample_rows(len(problem.x), _CHOICE_ROWS, before=NearestClassification.training_rows)
        return cls(rows, problem.targets[rows], problem.labels[rows])

    def neighbourhoods(self, posterior: NearestPosterior) -> Neighbourhoods:
        """Of the nearest others of each row."""
        return posterior.left_out(self.rows)

    def scores(self, found: Neighbourhoods) -> Tensor:
        """One score for each class, ``m x C``."""
        return class_scores(self.targets - found.deviation[:, None] * found.z[..., -1])

    def log_loss(self, posterior: NearestPosterior) -> float:
        """Mean log-loss with the best link, in nats."""
        scores = self.scores(self.neighbourhoods(posterior))
        return log_loss(Link.fit(scores, self.labels).logits(scores), self.labels)


def _spec(setting: KernelSetting, given: Kernel | None) -> KernelSpec:
    kernel: Any = setting.name if given is None else given
    return KernelSpec(kernel, "relu", None, False)


def _learn(
    model: NearestClassification,
    problem: Problem,
    setting: KernelSetting,
    noise: float,
) -> None:
    """Learn the hyperparameters of a model.

    Args:
        model: starts at its link, and is left at the maximum.
        problem: the data.
        setting: of the kernel to start from.
        noise: to start from, relative to the mean variance of the kernel.

    Raises:
        KeyboardInterrupt: as ever.
    """
    spec = _spec(setting, problem.given)
    search = Search(
        spec, with_priors=True, fixed=False, noise_variance=None, max_iter=None, n_restarts=0,
        max_samples=None, generator=problem.generator, bar=problem.bar,
    )  # fmt: skip
    search.prepare(model)
    if problem.given is None:
        lengthscale = 1.0 if setting.input_bias_variance else _SHORT
        set_raw(model, spec.raw(model, Start(setting.horizon, noise, lengthscale)))
    with torch.no_grad():
        model.likelihood.noise = noise * model.covar_module(model.train_x, diag=True).mean()
    if learn(model, search).interrupted:
        raise KeyboardInterrupt


def _own_kernel(model: NearestClassification, problem: Problem) -> ResNetKernel | None:
    """The network whose hyperparameters were learned; None for a given kernel."""
    kernel: Any = model.covar_module.base_kernel
    return kernel if problem.given is None else None
