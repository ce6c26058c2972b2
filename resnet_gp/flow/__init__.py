"""The covariance of infinite ResNets as pure mathematics: torch tensors in and out, no GPyTorch.

Homogeneous kernels are one scalar map of the correlation (``correlation``, ``depth``,
``covariance``); in all others the variances and the covariance of a pair flow together
(``general``, ``general_table``, ``general_covariance``).
"""
