"""scikit-learn estimators: arrays in and out, standardisation, validation, persistence."""

from resnet_gp.estimators.classifier import ResNetGPClassifier
from resnet_gp.estimators.regressor import ResNetGPRegressor

__all__ = ["ResNetGPClassifier", "ResNetGPRegressor"]
