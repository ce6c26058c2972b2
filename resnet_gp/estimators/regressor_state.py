"""Fitted models of the regressor as named tensors, and back, to the bit."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from resnet_gp.fitting.search import Search, Training
from resnet_gp.models.exact_posterior import ExactPosterior
from resnet_gp.models.sparse import SparsePosterior, SparseRegression

Tensors = dict[str, Tensor]
Restored = tuple[Any, Any, Any]
"""Model, posterior, and draws of hyperparameters or None."""

_MODEL = "model."
_OF_ROWS = {"extra_variance": 0, "sample_weight": 1}


def pack(inference: str, model: Any, posterior: Any, draws: Any) -> Tensors:
    """All that is not training data.

    Args:
        inference: "exact" or "sparse".
        model: of that inference.
        posterior: of the model, or its mixture over draws.
        draws: of the hyperparameters; None without.
    """
    parameters = {_MODEL + name: value.detach() for name, value in model.named_parameters()}
    rows = model.rows if inference == "sparse" else model
    for name, usual in _OF_ROWS.items():
        value = getattr(rows, name)
        if value is not None and bool((value != usual).any()):
            parameters[name] = value
    if inference == "sparse":
        del parameters[_MODEL + "inducing_points"]  # the posterior's own
        return parameters | posterior.tensors()
    if draws is not None:
        return parameters | posterior.tensors() | draws.tensors()
    return parameters | {"cholesky": posterior.cholesky, "weights": posterior.weights}


def unpack(inference: str, search: Search, training: Training, tensors: Tensors) -> Restored:
    """The inverse of ``pack``.

    Args:
        inference: as there.
        search: of the fit; it makes the kernel.
        training: its data; noise variances and weights that the tensors have replace its own.
        tensors: what ``pack`` returned; other entries are left aside.
    """
    inner = {
        name.removeprefix(_MODEL): value
        for name, value in tensors.items()
        if name.startswith(_MODEL)
    }
    training = replace(training, **{name: tensors[name] for name in _OF_ROWS if name in tensors})
    restore = {"exact": _exact, "sparse": _sparse}
    return restore[inference](search, training, tensors, inner)


def _exact(search: Search, training: Training, tensors: Tensors, inner: Tensors) -> Restored:
    model = search.exact_model(training)
    _copy_parameters(model, inner)
    if "members.cholesky" in tensors:
        from resnet_gp.bayes.draws import Draws
        from resnet_gp.bayes.exact_mixture import ExactMixture
        from resnet_gp.bayes.gp_regression import GPRegression

        mixture = ExactMixture.from_tensors(GPRegression.of(model), tensors)
        return model, mixture, Draws.from_tensors(tensors)
    factors = tensors["cholesky"], tensors["weights"]
    return model, ExactPosterior(model.covar_module, training.x, training.y, *factors), None


def _sparse(search: Search, training: Training, tensors: Tensors, inner: Tensors) -> Restored:
    kernel = search.spec.build(training.x.shape[1])
    points = tensors["inducing_points"]
    model = SparseRegression(
        training.x, training.y, kernel, points, training.extra_variance, training.sample_weight
    )
    search.prepare(model)
    _copy_parameters(model, inner | {"inducing_points": points})
    is_vector = training.y.dim() == 1
    return model, SparsePosterior.from_tensors(model.covar_module, tensors, is_vector), None


def _copy_parameters(model: torch.nn.Module, values: Tensors) -> None:
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            parameter.copy_(values[name])
