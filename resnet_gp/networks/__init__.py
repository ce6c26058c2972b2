"""Finite ResNets and MLPs at initialisation, sampled on any device and in any precision.

``laws``        definition of a network: width, depth, activation, variances
``samplers``    pre-activations layer by layer, with explicit weights or exact in law
``statistics``  statistics of batches of networks, which can be merged
``simulation``  many networks in bounded memory, reproducible and resumable
``tangent``     the empirical tangent kernel

Predictions for infinite networks are in ``resnet_gp.verification``.
"""

from resnet_gp.networks.laws import MLP, Network, ResNet
from resnet_gp.networks.samplers import SAMPLERS, layers
from resnet_gp.networks.simulation import Results, Simulation, TangentSimulation, simulate
from resnet_gp.networks.statistics import SampleMoments, Samples, Statistic
from resnet_gp.networks.tangent import tangent_kernels

__all__ = [
    "MLP",
    "SAMPLERS",
    "Network",
    "ResNet",
    "Results",
    "SampleMoments",
    "Samples",
    "Simulation",
    "Statistic",
    "TangentSimulation",
    "layers",
    "simulate",
    "tangent_kernels",
]
