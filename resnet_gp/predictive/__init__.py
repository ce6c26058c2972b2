"""The law of a new target: densities, quantiles and samples of what a model predicts."""

from resnet_gp.predictive.error_law import ErrorLaw
from resnet_gp.predictive.law import Law
from resnet_gp.predictive.residual_law import ResidualLaw

__all__ = ["ErrorLaw", "Law", "ResidualLaw"]
