"""Finite ResNets and MLPs at initialisation, sampled on any device and in any precision.

``laws``        what a network is: width, depth, activation, variances
``samplers``    its pre-activations, layer by layer: with explicit weights, or exact in law
``statistics``  running statistics that merge
``simulation``  many networks in bounded memory, reproducible, interruptible
``tangent``     the empirical tangent kernel

They know nothing of the infinite network: predictions are in ``resnet_gp.verification``.
"""

from resnet_gp.networks.laws import MLP, Network, ResNet
from resnet_gp.networks.samplers import SAMPLERS, layers
from resnet_gp.networks.simulation import Results, Simulation, TangentSimulation, simulate
from resnet_gp.networks.statistics import Moments, Samples, Statistic
from resnet_gp.networks.tangent import tangent_kernels

__all__ = [
    "MLP",
    "SAMPLERS",
    "Moments",
    "Network",
    "ResNet",
    "Results",
    "Samples",
    "Simulation",
    "Statistic",
    "TangentSimulation",
    "layers",
    "simulate",
    "tangent_kernels",
]
