"""Posteriors of the classifier as named tensors, and back, to the bit."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

from resnet_gp.models.ensemble import Ensemble, ExactMember
from resnet_gp.models.sparse_leave_one_out import NystroemFeatures, SparseMember


def pack(posterior: Ensemble) -> dict[str, Tensor]:
    """All that is not the kernels or the training inputs."""
    tensors = {"offset": posterior.offset}
    for i, member in enumerate(posterior.members):
        tensors |= {f"{i}.{name}": tensor for name, tensor in _pack_member(member).items()}
    return tensors


def unpack(tensors: dict[str, Tensor], kernels: Sequence[Kernel], x: Tensor) -> Ensemble:
    """The inverse of ``pack``.

    Args:
        tensors: what ``pack`` returned.
        kernels: one for each member.
        x: training inputs, ``n x d``.
    """
    members: list[Any] = []
    for i, kernel in enumerate(kernels):
        own = {
            name.removeprefix(f"{i}."): tensor
            for name, tensor in tensors.items()
            if name.startswith(f"{i}.")
        }
        members.append(_unpack_member(own, kernel, x))
    return Ensemble(members, tensors["offset"])


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
