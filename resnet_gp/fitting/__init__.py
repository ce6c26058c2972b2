"""From data to hyperparameters: which model, where searches start, the optimiser, checkpoints.

Tensors in and out, no scikit-learn estimator. Users' data is checked elsewhere; parameters that
only fits understand (kernels, components, inference) are checked here.
"""

from resnet_gp.fitting.optimiser import FitResult, get_raw, maximise, set_raw

__all__ = ["FitResult", "get_raw", "maximise", "set_raw"]
