"""Posteriors of the classifier as named tensors, and back, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.estimators.classification import Posterior
from resnet_gp.models.ensemble import Ensemble, ExactMember
from resnet_gp.models.laplace import LaplaceFit, LaplaceMember
from resnet_gp.models.sparse_leave_one_out import NystroemFeatures, SparseMember
from resnet_gp.models.variational_classification import VariationalClassification


def pack(posterior: Posterior) -> dict[str, Tensor]:
    """All that is not the kernels or the training inputs."""
    if isinstance(posterior, Ensemble):
        tensors = {"offset": posterior.offset}
        for i, member in enumerate(posterior.members):
            tensors |= {f"{i}.{name}": tensor for name, tensor in _pack_member(member).items()}
        return tensors
    if isinstance(posterior, LaplaceMember):
        fit = posterior.fit
        numbers = [posterior.factor, fit.log_evidence, fit.iterations, fit.converged]
        return {
            "laplace": torch.tensor(numbers, dtype=torch.float64),
            "weights": fit.weights,
            "curvatures": fit.curvatures,
            "total": fit.total,
        }
    assert isinstance(posterior, VariationalClassification)
    state = posterior.state_dict()  # some of which share their memory
    return {f"variational.{name}": value.clone() for name, value in state.items()}


def unpack(
    tensors: dict[str, Tensor], kernels: Sequence[Kernel], x: Tensor, n_classes: int
) -> Posterior:
    """The inverse of ``pack``.

    Args:
        tensors: what ``pack`` returned.
        kernels: one for each member.
        x: training inputs, ``n x d``.
        n_classes: C.
    """
    if "offset" in tensors:
        members: list[Any] = []
        for i, kernel in enumerate(kernels):
            own = {
                name.removeprefix(f"{i}."): tensor
                for name, tensor in tensors.items()
                if name.startswith(f"{i}.")
            }
            members.append(_unpack_member(own, kernel, x))
        return Ensemble(members, tensors["offset"])
    if "laplace" in tensors:
        factor, evidence, iterations, converged = tensors["laplace"].tolist()
        fit = LaplaceFit(
            evidence, tensors["weights"], tensors["curvatures"], tensors["total"],
            int(iterations), bool(converged),
        )  # fmt: skip
        return LaplaceMember(kernels[0], x, factor, fit)
    state = {name.removeprefix("variational."): value for name, value in tensors.items()}
    inducing = state["variational_strategy.base_variational_strategy.inducing_points"]
    model = VariationalClassification(inducing, kernels[0], n_classes)
    model.load_state_dict(state)
    return model.eval()


def _pack_member(member: Any) -> dict[str, Tensor]:
    if isinstance(member, ExactMember):
        return {
            "weights": member.weights,
            "scale": torch.tensor(member.scale, dtype=torch.float64),
            "noise": member.noise,
            "outputscale": member.outputscale,
        }
    assert isinstance(member, SparseMember)
    return {
        "inducing": member.features.inducing,
        "features_scale": torch.tensor(member.features.scale, dtype=torch.float64),
        "factor": member.features.factor,
        "weights": member.weights,
        "noise": torch.tensor(member.noise, dtype=torch.float64),
        "precision": member.precision,
        "vectors": member.vectors,
        "outputscale": member.outputscale,
    }


def _unpack_member(tensors: dict[str, Tensor], kernel: Kernel, x: Tensor) -> Any:
    weights = tensors["weights"]
    if "inducing" not in tensors:
        scale, noise = tensors["scale"].item(), tensors["noise"]
        return ExactMember(kernel, x, weights, scale, noise, tensors["outputscale"])
    features = NystroemFeatures(
        kernel, tensors["inducing"], tensors["features_scale"].item(), tensors["factor"]
    )
    return SparseMember(
        features, weights, tensors["noise"].item(), tensors["precision"],
        tensors["vectors"], tensors["outputscale"],
    )  # fmt: skip
