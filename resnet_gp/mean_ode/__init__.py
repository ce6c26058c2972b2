"""How deep ResNets train, and the limit that speaks for them (Chizat 2025, arXiv 2509.10167).

``ResidualMLP``   the network, for one's own training; ``advise_scale`` chooses its scale
``training``      gradient descent on many networks at once; ``linearised``: in the lazy limit
``limit``         the Neural Mean ODE in training, with the error of what is computed
``experiments``   theory against networks; each module has a function ``run`` from a lab to a result

It reads the report and the fits of ``verification``; nothing else in the package reads it.
"""

from resnet_gp.mean_ode.advice import Advice, advise_scale
from resnet_gp.mean_ode.network import ResidualMLP

__all__ = ["Advice", "ResidualMLP", "advise_scale"]
