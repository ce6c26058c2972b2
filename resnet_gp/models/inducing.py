"""Choose inducing points: greedy selection of training inputs, or centres of clusters."""

from __future__ import annotations

import torch
from gpytorch.kernels import Kernel
from torch import Tensor

# Residual variances below this many eps of the largest prior variance are rounding.
_ROUNDING = 64
# Kernel rows computed in one call, for the points likely to be selected next.
_CANDIDATES = 16
_ROUNDS = 10  # of k-means


@torch.no_grad()
def greedy_inducing_points(kernel: Kernel, x: Tensor, m: int) -> Tensor:
    """Select m inputs, each with the largest prior variance given the previous ones.

    This is a Cholesky factorisation of the kernel matrix with complete pivoting, stopped after m
    columns (Burt, Rasmussen & van der Wilk 2020, "Convergence of Sparse Variational Inference in
    Gaussian Processes Regression", section 4). It takes O(n m) memory and O(n m^2) time: for large
    n, pass a random subset of the rows.

    Args:
        kernel: any GPyTorch kernel without batch dimensions.
        x: ``n x d``.
        m: the number of points, from 1 to n.

    Returns:
        Indices of rows of x in the order of selection: m, or fewer if these determine all others up
        to rounding (duplicates, or a kernel of low rank).

    Raises:
        ValueError: bad shapes, m out of range, or a variance that is not finite or all zero.
    """
    if x.dim() != 2:
        raise ValueError(f"x must be n x d, got shape {tuple(x.shape)}")
    if not 1 <= m <= len(x):
        raise ValueError(f"m must be from 1 to the number of rows {len(x)}, got {m}")
    residual = kernel(x, diag=True).clone()
    largest = residual.max()
    if residual.shape != x.shape[:1] or not (residual.isfinite().all() and largest > 0):
        raise ValueError(
            "kernel must give one finite variance for each row of x, not all of them 0"
        )
    least = _ROUNDING * torch.finfo(residual.dtype).eps * largest
    factor = residual.new_empty(m, len(x))
    rows: dict[int, Tensor] = {}
    chosen: list[int] = []
    for k in range(m):
        pivot = int(residual.argmax())
        variance = residual[pivot].clone()
        if variance <= least:
            break
        if pivot not in rows:
            residual[pivot] = torch.inf  # comes first among equals
            candidates = residual.topk(min(_CANDIDATES, len(x))).indices
            rows = dict(zip(candidates.tolist(), kernel(x[candidates], x).to_dense(), strict=True))
        torch.sub(rows[pivot], factor[:k, pivot] @ factor[:k], out=factor[k]).div_(variance.sqrt())
        residual.addcmul_(factor[k], factor[k], value=-1)
        residual[pivot] = 0
        chosen.append(pivot)
    return torch.tensor(chosen, device=x.device)


def cluster_centres(x: Tensor, m: int, seed: int = 0) -> Tensor:
    """Centres of m clusters (k-means), ``m x d``, as starts for inducing points to be optimised.

    Fixed inducing points are better chosen greedily, as they then cover the edges of the data.
    Centres lie where rows are dense, and the bound rises faster from there.

    Args:
        x: ``n x d``; for large n, pass a random subset.
        m: the number of clusters; with at most m distinct rows, these are returned.
        seed: of the rows from which k-means starts.
    """
    from sklearn.cluster import KMeans

    distinct = torch.unique(x, dim=0)
    if len(distinct) <= m:
        return distinct
    clusters = KMeans(m, init="random", n_init=1, max_iter=_ROUNDS, random_state=seed)
    centres = clusters.fit(distinct.cpu().numpy()).cluster_centers_
    return torch.from_numpy(centres).to(x)
