"""Classification by regression on +-1 targets given nearest rows: the model that is fitted."""

from __future__ import annotations

from typing import ClassVar

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.models.calibration import LOG_SLOPES, class_scores
from resnet_gp.models.nearest import NearestRegression
from resnet_gp.models.neighbourhoods import predicted_means


class NearestClassification(NearestRegression):
    """Class probabilities softmax(b mean), where each mean is seen given the nearest others.

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
        self.raw_slope = torch.nn.Parameter(train_x.new_ones(()))

    @property
    def slope(self) -> Tensor:
        """b, between e^-5 and e^8."""
        return self.raw_slope.clamp(*LOG_SLOPES).exp()

    def log_marginal_likelihood(self) -> Tensor:
        rows, members = self._sampled()
        scores = class_scores(predicted_means(self.covar_module, rows, members) + self.offset)
        labels = class_scores(rows.y[members[:, -1]] + self.offset).argmax(1)
        return -torch.nn.functional.cross_entropy(self.slope * scores, labels, reduction="sum")
