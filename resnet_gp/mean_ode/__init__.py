"""Training of deep ResNets and its limit of infinite depth (Chizat 2025, arXiv 2509.10167).

``ResidualMLP``   the network as a torch module; ``advise_scale`` chooses its scale
``training``      gradient descent on many networks at once, without a graph over depth
``linearised``    the same in the lazy limit
``scales``        step sizes and regimes
``units``         initialisation of the units
``experiments``   all experiments by name; each module has a function ``run`` that returns a result
"""

from resnet_gp.mean_ode.advice import Advice, advise_scale
from resnet_gp.mean_ode.network import ResidualMLP

__all__ = ["Advice", "ResidualMLP", "advise_scale"]
