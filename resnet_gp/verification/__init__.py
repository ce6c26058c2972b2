"""Experiments that test the theory, and this package's kernels, on finite random networks.

``experiments``    all experiments by name; each module has a function ``run`` that returns a result
``predictions``    covariances according to the kernels; ``fluctuations``: deviation of one network
``required_size``  width and depth needed for a given error
"""
