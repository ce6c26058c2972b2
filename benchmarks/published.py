"""Published test errors on the nine standard regression sets, with their sources.

Deep ensembles: Lakshminarayanan, Pritzel & Blundell (2017), "Simple and Scalable Predictive
Uncertainty Estimation using Deep Ensembles", Table 1. MC dropout: Gal & Ghahramani (2016),
"Dropout as a Bayesian Approximation", as quoted there. Pairs of RMSE and negative log likelihood.

``BEST``: the lowest figures that were found, each read where ``source`` says. These are tables of
repositories on GitHub (their README; of ibug, extended_results/CRPS/test_CRPS.csv) and of one
leaderboard rather than of papers, and how their models were tuned was not audited. Splits are the
standard ones (Hernandez-Lobato & Adams 2015) but where ``remark`` says so.
"""

from __future__ import annotations

from typing import NamedTuple

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


class Published(NamedTuple):
    """A figure of a source; ``measure`` is "rmse", "nlpd" or "crps"."""

    data: str
    measure: str
    value: float
    model: str
    source: str
    remark: str = ""


WIZWAND = "wizwand, leaderboard"
AYHAMO = "ayhamo/Probabilistic_Point_Estimations"
IBUG = "jjbrophy47/ibug@e1960cd"
GPRX = "YUKIKEDA/gprx"
OWN_SPLITS = "splits of its own"

BEST = (
    Published("boston", "rmse", 2.61, "CARD", WIZWAND),
    Published("concrete", "rmse", 3.86, "TabPFN", AYHAMO),
    Published("concrete", "rmse", 4.36, "XGBoost", AYHAMO),
    Published("concrete", "nlpd", 2.21, "TabPFN", AYHAMO),
    Published("concrete", "crps", 1.895, "IBUG or PGBM", IBUG, OWN_SPLITS),
    Published("energy", "rmse", 0.322, "XGBoost", AYHAMO),
    Published("energy", "nlpd", 0.150, "TabPFN", AYHAMO),
    Published("energy", "crps", 0.155, "IBUG or PGBM", IBUG, OWN_SPLITS),
    Published("kin8nm", "rmse", 0.0636, "thin-and-deep GP", AYHAMO),
    Published("kin8nm", "nlpd", -1.29, "TabResFlow", AYHAMO),
    Published("kin8nm", "crps", 0.0372, "not named", AYHAMO),
    Published("naval", "rmse", 1.57e-5, "SGPR, 512 points", GPRX),
    Published("naval", "nlpd", -9.68, "SGPR, 512 points", GPRX),
    Published("power", "rmse", 3.00, "TabPFN", AYHAMO),
    Published("power", "rmse", 3.07, "XGBoost", AYHAMO),
    Published("power", "nlpd", 2.28, "TabPFN", AYHAMO),
    Published("power", "crps", 1.528, "IBUG or PGBM", IBUG, OWN_SPLITS),
    Published("protein", "rmse", 3.36, "XGBoost", AYHAMO),
    Published("protein", "nlpd", 1.73, "TabPFN", AYHAMO, "10,000 rows, 4 of 5 splits"),
    Published("protein", "nlpd", 1.93, "TabResFlow", AYHAMO),
    Published("protein", "crps", 1.692, "IBUG or PGBM", IBUG, OWN_SPLITS),
    Published("wine_red", "rmse", 0.564, "XGBoost", AYHAMO),
    Published("wine_red", "crps", 0.317, "not named", AYHAMO),
    Published("yacht", "nlpd", -0.73, "TabPFN", AYHAMO),
    Published("yacht", "crps", 0.240, "IBUG or PGBM", IBUG, OWN_SPLITS),
)
