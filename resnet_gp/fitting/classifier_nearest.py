"""Fit a classifier that conditions each prediction on its nearest rows, for any number of rows."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import compress
from typing import Any, NamedTuple

import numpy as np
import torch
from gpytorch.kernels import Kernel
from numpy.typing import NDArray
from torch import Tensor

from resnet_gp.fitting.class_metric import MOST_TURNED
from resnet_gp.fitting.classifier_search import (
    NOISE_LEVELS,
    ClassifierFit,
    Problem,
    Solution,
    spread_rows,
)
from resnet_gp.fitting.directions import gradient_directions
from resnet_gp.fitting.kernel_search import search
from resnet_gp.fitting.kernel_settings import KernelSetting, make_kernel, settings_of
from resnet_gp.fitting.kernel_spec import KernelSpec, Start
from resnet_gp.fitting.nearest import learn
from resnet_gp.fitting.optimiser import set_raw
from resnet_gp.fitting.search import Search
from resnet_gp.models.calibration import Link, class_scores, log_loss
from resnet_gp.models.ensemble import Ensemble
from resnet_gp.models.nearest import sample_rows
from resnet_gp.models.nearest_classification import NearestClassification
from resnet_gp.models.nearest_member import NearestMember
from resnet_gp.models.nearest_posterior import NearestPosterior
from resnet_gp.models.neighbourhoods import Neighbourhoods
from resnet_gp.models.turn import Turn

_LOGGER = logging.getLogger("resnet_gp")

# Rows, other than those of the search where there are enough, whose left-out means choose among
# kernels and numbers of neighbours, and give the link.
_CHOICE_ROWS = 3000
# Neighbours with which kernels are compared.
_FIRST_NEIGHBORS = 64
# Numbers of neighbours to choose from, the first within this share of the least log-loss.
_NEIGHBORS, _WITHIN = (64, 128, 256), 0.005
_SHARES = (0.0, 0.25, 0.5, 0.75, 1.0)  # of a further model in the average
# At most so many turns towards the directions of the gradients of so many rows.
_TURNS, _GRADIENT_ROWS = 2, 1000
# Lengthscales of a start without input bias, in standard deviations: they make the bias small.
_SHORT = 0.3


class _Model(NamedTuple):
    """A model whose hyperparameters were learned, where it started, and its loss of left-out rows.

    Attributes:
        loss: of the labels, in nats.
        setting: of the kernel that it started from.
        model: itself.
    """

    loss: float
    setting: KernelSetting
    model: NearestClassification

    @property
    def network(self) -> Any:
        """Its kernel, without the output scale."""
        return self.model.covar_module.base_kernel

    def learned_setting(self) -> KernelSetting:
        """The setting with what was learned; a given kernel's says nothing."""
        if self.setting.name == "given":
            return self.setting
        return self.setting._replace(
            horizon=self.network.horizon.item(),
            input_bias_variance=self.network.input_bias_variance.item(),
        )


@dataclass(frozen=True)
class NearestFit(ClassifierFit):
    """Maximises the likelihood of left-out labels, each given its nearest rows.

    A network starts from the kernel of the grid that predicts some of the rows best, be it the one
    at initialisation or the trained one. It sees both encodings of columns of few values, and its
    lengthscales weigh them. The same is done with further views, and the means are averaged in
    shares that left-out labels choose: along the principal directions of the means' gradient, and
    once more along those of the new means if the first turn helped, which lowers the log-loss by a
    seventh on letter and to a quarter on nursery; and, where features are skewed, with their normal
    scores, which lowers it by 2 % on magic.

    Attributes:
        n_neighbors: of a prediction; None for a number that left-out rows choose.
    """

    n_neighbors: int | None
    name, member, sees_scores = "nearest", NearestMember, True

    def views(
        self, blocks: Sequence[tuple[int, ...]], scores: tuple[int, ...]
    ) -> list[tuple[int, ...]]:
        plain = tuple(sorted({column for block in blocks for column in block}))
        return [plain, scores] if scores else [plain]

    def kernel(self, setting: KernelSetting, given: Kernel | None) -> Kernel:
        if given is not None:
            return make_kernel(setting, given)
        return _spec(setting, given).build(len(setting.active_dims))

    def steps(self, settings: Sequence[KernelSetting]) -> int | None:
        return None  # each search ends when it ends

    def solve(self, problem: Problem) -> Solution:
        held_out = _HeldOut.of(problem)
        models, turn = self._models(problem, held_out)
        n_neighbors = self._neighbors(models[0].model, held_out)
        members, scores = zip(*(_member(one, n_neighbors, held_out) for one in models), strict=True)
        weights = _weights(scores, held_out.labels)
        average = torch.tensordot(weights, torch.stack(scores), 1)
        kept = weights > 0
        models = list(compress(models, kept))
        attributes: dict[str, Any] = {"n_neighbors_": n_neighbors}
        if problem.given is None:
            attributes["lengthscale_"] = _lengthscales(models, problem.x.shape[1], turn)
        return Solution(
            Ensemble(list(compress(members, kept)), weights[kept], models[0].model.offset, turn),
            [one.learned_setting() for one in models],
            Link.fit(average, held_out.labels),
            attributes,
        )

    def _models(self, problem: Problem, held_out: _HeldOut) -> tuple[list[_Model], Turn | None]:
        """A network of the features, and of further views of them; the turn of one of these."""
        plain, *others = dict.fromkeys(setting.active_dims for setting in problem.settings)
        first = best = self._model(problem, held_out, plain)
        turn: Turn | None = None
        for _ in range(_TURNS if problem.given is None else 0):
            further = _turned(best.model, problem.x.shape[1], plain, turn)
            if further is None:
                break
            settings = settings_of(problem.settings, plain, further.places)
            inputs = replace(problem, x=further.extended(problem.x), settings=settings)
            turned = self._model(inputs, held_out, further.places)
            if turned.loss >= best.loss:
                break
            best, turn = turned, further
        more = [self._model(problem, held_out, columns) for columns in others]
        return [first, *([] if best is first else [best]), *more], turn

    def _model(self, problem: Problem, held_out: _HeldOut, columns: tuple[int, ...]) -> _Model:
        """A network that learned from some columns of the inputs, from where the grid is best."""
        targets = problem.targets
        offset = targets.mean(0)
        centred = targets - offset
        rows = spread_rows(problem.labels.numpy(), problem.generator)
        settings = settings_of(problem.settings, columns, columns)
        own = replace(problem, settings=settings).kernels()
        best = search(own, problem.x[rows], centred[rows], NOISE_LEVELS, 1, problem.bar.update)[0]
        setting = settings[best.index]
        x, kernel = problem.x[:, columns], self.kernel(setting, problem.given)
        model = NearestClassification(x, centred, offset, kernel, _FIRST_NEIGHBORS)
        scores = class_scores(best.held_out.mean + offset)
        model.link = Link.fit(scores, problem.labels[torch.from_numpy(rows)])
        _learn(model, problem, setting, best.noise)
        loss = held_out.log_loss(model.posterior())
        _LOGGER.info(
            "%s, %d inputs: log-loss %.4f of left-out labels", setting.name, len(columns), loss
        )
        return _Model(loss, setting, model)

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


def _member(one: _Model, n_neighbors: int, held_out: _HeldOut) -> tuple[NearestMember, Tensor]:
    """A member of the ensemble, and its scores of left-out rows."""
    one.model.n_neighbors = n_neighbors
    found = held_out.neighbourhoods(one.model.posterior())
    outputscale = found.z[..., -1].square().mean(0)  # of the highest density
    member = NearestMember.of(one.model, one.setting.active_dims, outputscale)
    return member, held_out.scores(found)


def _lengthscales(
    models: Sequence[_Model], n_inputs: int, turn: Turn | None
) -> NDArray[np.float64]:
    """Of each model's inputs, NaN for others; ``len(models) x n_inputs``."""
    found = np.full((len(models), n_inputs), np.nan)
    for row, one in zip(found, models, strict=True):
        columns, own = one.setting.active_dims, one.network.lengthscale.detach().ravel()
        if turn is not None and columns == turn.places:
            columns, own = turn.columns, turn.lengthscale(own)
        row[list(columns)] = own.numpy()
    return found


def _weights(scores: Sequence[Tensor], labels: Tensor) -> Tensor:
    """Weights of models, which sum to 1, from their scores of left-out rows.

    Each model in turn gets a share in the average of those before it.
    """
    average, weights = scores[0], torch.ones(1, dtype=torch.float64)
    for one in scores[1:]:
        averages = [(1 - share) * average + share * one for share in _SHARES]
        losses = [log_loss(Link.fit(both, labels).logits(both), labels) for both in averages]
        _LOGGER.info("log-losses %s with shares %s", np.round(losses, 4), _SHARES)
        least = int(np.argmin(losses))
        average, share = averages[least], _SHARES[least]
        weights = torch.cat([(1 - share) * weights, weights.new_tensor([share])])
    return weights


def _turned(
    model: NearestClassification, width: int, columns: tuple[int, ...], turn: Turn | None
) -> Turn | None:
    """Columns along the principal directions of a model's gradient, if it has any.

    Args:
        model: of these columns, or of the inputs that a turn made of them.
        width: number of all inputs.
        columns: some of them.
        turn: of the model.
    """
    x = model.train_x
    if not 1 < x.shape[1] <= MOST_TURNED:
        return None
    rows = torch.from_numpy(sample_rows(len(x), _GRADIENT_ROWS))
    found = gradient_directions(model.posterior(), x[rows])
    if found is None:
        return None
    directions = torch.from_numpy(found)
    return Turn(width, columns, directions if turn is None else turn.directions @ directions)


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
    search = Search(spec, problem.generator, problem.bar)
    search.prepare(model)
    if problem.given is None:
        lengthscale = 1.0 if setting.input_bias_variance else _SHORT
        set_raw(model, spec.raw(model, Start(setting.horizon, noise, lengthscale)))
    with torch.no_grad():
        model.likelihood.noise = noise * model.covar_module(model.train_x, diag=True).mean()
    if learn(model, search).interrupted:
        raise KeyboardInterrupt
