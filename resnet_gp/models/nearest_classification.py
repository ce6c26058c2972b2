"""Classification by regression on +-1 targets given nearest rows: the model that is fitted."""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.models.calibration import BOUNDS, Link, class_scores, linked
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.neighbourhoods import predicted_means


class NearestClassification(NearestRegression):
    """Class probabilities by a ``Link``, where each mean is seen given the nearest others.

    The log marginal likelihood is that of the labels of 8000 random rows, each with the mean that
    its 32 nearest others predict: more rows tell more than more neighbours. The density of the
    targets, by which regression learns, is no guide where most columns are constant around a row:
    it grows without end as the output scale falls. Means do not depend on the scale, which stays 1.

    Args:
        train_x: ``n x d``.
        train_y: targets of +-1 for each class, or one column for two classes, minus ``offset``;
            ``n x p``.
        offset: ``p``.
        kernel: any GPyTorch kernel without an output scale of its own.
        n_neighbors: k of the posterior.
    """

    training_rows: int = 8000
    training_neighbors: ClassVar[int] = 32
    offset: Tensor

    def __init__(
        self,
        train_x: Tensor,
        train_y: Tensor,
        offset: Tensor,
        kernel: Kernel,
        n_neighbors: int,
    ) -> None:
        super().__init__(train_x, train_y, kernel, n_neighbors)
        self.covar_module.raw_outputscale.requires_grad_(False)
        self.register_buffer("offset", offset)
        self.raw_sharpness = torch.nn.Parameter(train_x.new_zeros(()))
        self.raw_floor = torch.nn.Parameter(train_x.new_zeros(()))

    @property
    def link(self) -> tuple[Tensor, Tensor]:
        """The sharpness and the floor of the link."""
        first, second = BOUNDS
        return self.raw_sharpness.clamp(*first).exp(), self.raw_floor.clamp(*second).exp()

    @link.setter
    def link(self, link: Link) -> None:
        with torch.no_grad():
            for raw, value in zip((self.raw_sharpness, self.raw_floor), link, strict=True):
                raw.fill_(math.log(value))

    def log_marginal_likelihood(self) -> Tensor:
        rows, members = self._sampled()
        scores = class_scores(predicted_means(self.covar_module, rows, members) + self.offset)
        labels = class_scores(rows.y[members[:, -1]] + self.offset).argmax(1)
        logits = linked(scores, *self.link)
        return -torch.nn.functional.cross_entropy(logits, labels, reduction="sum")
