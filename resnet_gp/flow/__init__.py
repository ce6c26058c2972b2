"""The covariance of infinite ResNets as pure mathematics: torch tensors in and out, no GPyTorch.

``angles``       the correlation ODE and the functions that solve it
``table``        one Chebyshev table per horizon
``correlation``  the flow of single entries, twice differentiable
``covariance``   covariance matrices in one fused call (``compiled``: its loops in numba)
"""
