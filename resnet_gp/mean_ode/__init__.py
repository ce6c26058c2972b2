"""Training of deep ResNets and its limit of infinite depth (Chizat 2025, arXiv 2509.10167)."""

from resnet_gp.mean_ode.advice import Advice, advise_scale
from resnet_gp.mean_ode.network import ResidualMLP

__all__ = ["Advice", "ResidualMLP", "advise_scale"]
