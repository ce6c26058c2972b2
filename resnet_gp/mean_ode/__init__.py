"""How deep ResNets train, and the limit that speaks for them (Chizat 2025, arXiv 2509.10167).

``ResidualMLP``   the network, for one's own training; ``advise_scale`` chooses its scale
``training``      gradient descent on many networks at once, without a graph over depth
``linearised``    the same in the lazy limit
``scales``, ``units``  step sizes and regimes; how the units start

Nothing else in the package reads it.
"""

from resnet_gp.mean_ode.advice import Advice, advise_scale
from resnet_gp.mean_ode.network import ResidualMLP

__all__ = ["Advice", "ResidualMLP", "advise_scale"]
