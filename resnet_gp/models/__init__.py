"""GPyTorch models and their inference: everything between a kernel and an estimator.

Tensors in and out; no scikit-learn, no standardisation.
"""

from resnet_gp.models.exact import ExactPosterior, ExactRegression, gaussian_log_likelihood
from resnet_gp.models.fitting import FitResult, maximise

__all__ = [
    "ExactPosterior",
    "ExactRegression",
    "FitResult",
    "gaussian_log_likelihood",
    "maximise",
]
