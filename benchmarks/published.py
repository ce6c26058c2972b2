"""Published test errors on the nine standard regression sets, as their papers print them.

Deep ensembles: Lakshminarayanan, Pritzel & Blundell (2017), "Simple and Scalable Predictive
Uncertainty Estimation using Deep Ensembles", Table 1. MC dropout: Gal & Ghahramani (2016),
"Dropout as a Bayesian Approximation", as quoted there. Pairs of RMSE and negative log likelihood.
"""

DEEP_ENSEMBLES = {
    "boston": (3.28, 2.41), "concrete": (6.03, 3.06), "energy": (2.09, 1.38),
    "kin8nm": (0.09, -1.20), "naval": (0.00, -5.63), "power": (4.11, 2.79),
    "protein": (4.71, 2.83), "wine_red": (0.64, 0.94), "yacht": (1.58, 1.18),
}  # fmt: skip
MC_DROPOUT = {
    "boston": (2.97, 2.46), "concrete": (5.23, 3.04), "energy": (1.66, 1.99),
    "kin8nm": (0.10, -0.95), "naval": (0.01, -3.80), "power": (4.02, 2.80),
    "protein": (4.36, 2.89), "wine_red": (0.62, 0.93), "yacht": (1.11, 1.55),
}  # fmt: skip
