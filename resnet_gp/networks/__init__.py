"""Finite ResNets and MLPs at initialisation, sampled on any device and in any precision."""

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
