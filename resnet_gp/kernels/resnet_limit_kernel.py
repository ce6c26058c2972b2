"""The GPyTorch kernel of the infinitely wide and deep ResNet."""

from __future__ import annotations

from resnet_gp.kernels.resnet_kernel import ResNetKernel


class ResNetLimitKernel(ResNetKernel):
    r"""Covariance of a ResNet at initialisation when width and depth go to infinity, in any order.

    For inputs a, b in R^d (Hayou & Yang 2023, "Width and Depth Limits Commute in Residual
    Networks", Theorems 2 and 3; with the initial values and "relu" it is exactly the paper's):

    .. math::
        q_0(a, b) &= \tfrac1d \sum_i a_i b_i / \ell_i^2 \;[+ \sigma_{in}^2] \\
        k(a, b) &= \sqrt{q_0(a, a)\, q_0(b, b)}\; e^{w (1 + \alpha^2) / 2}\, c_T,
        \qquad T = w (1 - \alpha)^2

    where the correlation :math:`c_t` starts at that of :math:`q_0` and follows
    :math:`dc/dt = (\sin\theta - \theta\cos\theta) / 2\pi`, :math:`c = \cos\theta`. No ODE is solved
    per pair.

    With other activations, or with ``block_bias``, k(a, b) is the solution at t = 1 of (Theorem 2)

    .. math::
        dq_t(a, b) / dt = w\, E[\phi(u) \phi(v)] \;[+ \sigma_b^2],

    with (u, v) a centred Gaussian of covariance :math:`q_t`. Smooth activations use tables in the
    two variances and the angle, made for each w; ReLU with block biases, and closed forms of at
    most 8 blocks, are integrated pair by pair. It is differentiable once.

    The kernel is not stationary. Without ``input_bias`` the prior variance is zero at x = 0: on
    centred data you almost always want ``input_bias=True``. Sample paths are once differentiable.
    T acts as an inverse angular length scale.

    Args:
        activation: "relu", "leaky_relu" or "abs", for which all of the above holds; "erf", "gelu",
            "sin", "tanh", "silu" or an ``Activation``, which follow the general equation.
        depth: L, a number of residual blocks from 1 to 10^6 for the infinitely wide network of that
            depth, in which q_0 takes L steps of Euler's method; None for the limit. The cost of a
            matrix does not depend on it.
        negative_slope: alpha of "leaky_relu"; the others ignore it.
        input_bias: give the input layer a bias of variance ``input_bias_variance``.
        block_bias: give the residual blocks biases of variance ``block_bias_variance``.
        variance: "full"; "no_growth", without the factor :math:`e^{w (1 + \alpha^2) / 2}`, which an
            output scale absorbs and which overflows for large w; or "unit",
            :math:`k(a, b) / \sqrt{k(a, a) k(b, b)}`, so that the prior variance is 1 everywhere
            instead of growing with the distance from the origin. The last two only for the (leaky)
            ReLU family without block bias.
        contrast: replace :math:`c_T` by :math:`(c_T - c_\pi) / (1 - c_\pi)`, where
            :math:`c_\pi` is the correlation of opposite inputs; it is positive definite as well.
            At long horizons all :math:`c_T` approach 1 and covariance matrices become nearly
            singular; the contrast stays of order one. Only for the (leaky) ReLU family without
            block bias at infinite depth.
        ard_num_dims: d, for one lengthscale per input dimension.
        batch_shape: shape of the batch of hyperparameters.
        active_dims: the input dimensions to use.
        lengthscale_prior, lengthscale_constraint: of ``lengthscale``,
            ``batch_shape x 1 x (1 or d)``.
        weight_variance_prior, weight_variance_constraint: of ``weight_variance``, w,
            ``batch_shape x 1 x 1``.
        input_bias_variance_prior, input_bias_variance_constraint: of ``input_bias_variance``,
            ``batch_shape x 1 x 1``; only with ``input_bias=True``.
        block_bias_variance_prior, block_bias_variance_constraint: of ``block_bias_variance``,
            ``batch_shape x 1 x 1``; only with ``block_bias=True``.

    All hyperparameters start at 1, unless a constraint has an initial value. Without a constraint
    they are positive and optimised in logarithms. float16 and bfloat16 are computed in float32.

    Raises:
        ValueError: unknown activation, a depth outside its range, or a horizon T beyond 10^4.
        RuntimeError: third derivatives; at finite depth, second derivatives.

    Example:
        >>> kernel = ScaleKernel(ResNetLimitKernel(input_bias=True, ard_num_dims=3))
        >>> kernel(torch.randn(5, 3)).to_dense().shape
        torch.Size([5, 5])
    """
