"""The infinitely wide and deep convolutional ResNet: one covariance for each pair of pixels.

    dq^{pp'}/dt = w / (2r + 1)^2 sum_delta E[phi(u) phi(v)]_{p + delta, p' + delta} + sigma_b^2

Pairs of pixels at one displacement p' - p, a ``Plane``, move among themselves. ``network`` says
what the network is and in which steps of time it is computed; ``covariance`` is for everyone else.
"""
