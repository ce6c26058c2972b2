"""Experiments that test the theory, and this package's kernels, on finite random networks."""
