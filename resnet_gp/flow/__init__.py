"""The covariance of infinite ResNets as pure mathematics: torch tensors in and out, no GPyTorch.

The (leaky) ReLU family without block bias, one scalar map of the correlation:

``autograd``     bases of the autograd functions
``domain``       the error of hyperparameters for which none of it is defined
``angles``       the correlation ODE and the functions that solve it
``table``        one Chebyshev table per horizon
``correlation``  the flow of single entries, twice differentiable
``depth``        finite depth and tangent kernels: tables made by composing the map of one block
``covariance``   covariance matrices in one fused call (``compiled``: its loops in numba)
``blocks``       the same maps as Horner schemes of vectors, for KeOps
``mixture``      the flow as a mixture of Gaussian kernels, for random features

Everything else, where the two variances and the covariance of a pair flow together:

``general``             fixed-step integration of single pairs, the reference
``cells``               Chebyshev series on cells of the two variances and the angle
``moment_table``        Gaussian moments of activations that have no closed forms, tabulated
``general_table``       the covariance, tabulated
``general_covariance``  covariance matrices by either path
"""
