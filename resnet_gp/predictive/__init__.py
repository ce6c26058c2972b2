"""The law of a new target: densities, quantiles and samples of what a model predicts."""
