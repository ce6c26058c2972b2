"""Two samplers of the pre-activations of random networks, batched over networks.

``explicit`` draws every weight. ``exact`` draws the neurons of W Phi + b, which are independent
N(0, w Phi^T Phi / n + sigma_b^2 1 1^T) given the hidden vectors Phi: each W_l is used once.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Literal, TypeAlias, get_args

import torch
from torch import Tensor

from resnet_gp.flow.input_layer import input_vectors
from resnet_gp.networks.laws import Network

Sampler: TypeAlias = Literal["exact", "explicit"]
SAMPLERS: tuple[Sampler, ...] = get_args(Sampler)


def layers(
    network: Network,
    inputs: Tensor,
    networks: int,
    generator: torch.Generator,
    sampler: Sampler = "exact",
) -> Iterator[Tensor]:
    """Sample the pre-activations Y_0, ..., Y_L of independent networks, one layer at a time.

    Args:
        network: the law.
        inputs: ``m x d``, on the device and in the dtype of the computation.
        networks: N, the number of networks.
        generator: random numbers, on the device of the inputs.
        sampler: "exact" or "explicit".

    Yields:
        ``N x m x n``. The next layer overwrites the tensor: copy it to keep it.

    Raises:
        ValueError: the sampler is unknown, or the inputs are not a matrix of finite floats.
    """
    check_sampler(sampler)
    if inputs.dim() != 2 or not inputs.is_floating_point() or not bool(inputs.isfinite().all()):
        raise ValueError(f"inputs must be m x d, finite and floating, got {tuple(inputs.shape)}")
    add_layer = _exact if sampler == "exact" else _explicit
    return _layers(network, network_inputs(network, inputs), networks, generator, add_layer)


def network_inputs(network: Network, inputs: Tensor) -> Tensor:
    """Scale the inputs and append the input bias, so that their inner products are q_0."""
    variance = network.input_bias_variance
    return input_vectors(inputs, None, inputs.new_tensor(variance) if variance else None)


def check_sampler(sampler: str) -> None:
    if sampler not in SAMPLERS:
        raise ValueError(f"sampler must be one of {', '.join(SAMPLERS)}; got {sampler!r}")


def _layers(
    network: Network,
    vectors: Tensor,
    networks: int,
    generator: torch.Generator,
    add_layer: Callable[[Tensor, Tensor, Network, torch.Generator], None],
) -> Iterator[Tensor]:
    hidden = vectors.new_empty(networks, len(vectors), network.width)
    # Input layer of both samplers: W_in itself or a factor of q_0, whichever is smaller.
    root = vectors if vectors.shape[1] <= len(vectors) else semidefinite_root(vectors @ vectors.mT)
    noise = normal(hidden, (networks, root.shape[1], network.width), generator)
    torch.matmul(root, noise, out=hidden)
    yield hidden
    phi = network.function
    for _ in range(network.depth):
        add_layer(hidden, phi(hidden), network, generator)
        yield hidden


def _exact(hidden: Tensor, phi: Tensor, network: Network, generator: torch.Generator) -> None:
    gram = phi @ phi.mT
    gram.mul_(network.layer_scale * network.weight_variance / network.width)
    gram.add_(network.layer_scale * network.block_bias_variance)
    noise = normal(hidden, hidden.shape, generator)
    hidden.baddbmm_(semidefinite_root(gram), noise, beta=float(network.carries))


def _explicit(hidden: Tensor, phi: Tensor, network: Network, generator: torch.Generator) -> None:
    networks, _, width = hidden.shape
    weights = normal(hidden, (networks, width, width), generator)
    scale = (network.layer_scale * network.weight_variance / width) ** 0.5
    change = phi @ weights  # not in place: phi may be the hidden vectors themselves
    hidden.mul_(float(network.carries)).add_(change, alpha=scale)
    if network.block_bias_variance:
        bias = normal(hidden, (networks, 1, width), generator)
        hidden.add_(bias, alpha=(network.layer_scale * network.block_bias_variance) ** 0.5)


def normal(like: Tensor, shape: Sequence[int], generator: torch.Generator) -> Tensor:
    """Draw standard normal numbers on the device and in the dtype of another tensor."""
    return like.new_empty(shape).normal_(generator=generator)


def semidefinite_root(gram: Tensor) -> Tensor:
    """Return A with A A^T = gram, for Gram matrices of any rank, ``... x m x m``.

    Eigenvalues below the rounding error of the largest count as zero, so that duplicate and
    collinear inputs remain so without jitter.
    """
    rounding = gram.shape[-1] * torch.finfo(gram.dtype).eps
    if gram.shape[-1] == 1:
        return gram.sqrt()
    if gram.shape[-1] == 2:
        return _root_of_pair(gram.double(), rounding).to(gram.dtype)
    values, vectors = torch.linalg.eigh(gram.double())
    values = torch.where(values > rounding * values[..., -1:], values, 0)
    return (vectors * values.sqrt_()[..., None, :]).to(gram.dtype)


def _root_of_pair(gram: Tensor, rounding: float) -> Tensor:
    """(G + s 1) / sqrt(tr G + 2 s) with s = sqrt(det G), by the theorem of Cayley and Hamilton."""
    trace = gram.diagonal(dim1=-2, dim2=-1).sum(-1)[..., None, None]
    det = (gram[..., 0, 0] * gram[..., 1, 1] - gram[..., 0, 1] * gram[..., 1, 0])[..., None, None]
    s = torch.where(det > rounding * trace.square(), det, 0).sqrt_()
    eye = torch.eye(2, dtype=gram.dtype, device=gram.device)
    scale = (trace + 2 * s).sqrt_()
    return (gram + s * eye) / torch.where(scale > 0, scale, 1)
