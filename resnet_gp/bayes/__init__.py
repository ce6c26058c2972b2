"""Full Bayes with Pyro: hyperparameters with priors, and finite networks whose limit is the GP."""

from resnet_gp.bayes.bayesian_resnet import BayesianResNet
from resnet_gp.bayes.contrib_kernel import ContribKernel
from resnet_gp.bayes.diagnostics import compare, problems, summary, to_arviz
from resnet_gp.bayes.draws import Draws
from resnet_gp.bayes.gaussian_vector import GaussianVector
from resnet_gp.bayes.gp_classification import GPClassification
from resnet_gp.bayes.gp_regression import GPRegression
from resnet_gp.bayes.hyperparameters import sample_hyperparameters, with_hyperparameters
from resnet_gp.bayes.nuts import run_nuts
from resnet_gp.bayes.sparse_gp import SparseGPClassification, SparseGPRegression
from resnet_gp.bayes.svi import run_svi
from resnet_gp.models.priors import add_weak_priors, fix_confounded
from resnet_gp.predictive.law import Law

__all__ = [
    "BayesianResNet",
    "ContribKernel",
    "Draws",
    "GPClassification",
    "GPRegression",
    "GaussianVector",
    "Law",
    "SparseGPClassification",
    "SparseGPRegression",
    "add_weak_priors",
    "compare",
    "fix_confounded",
    "problems",
    "run_nuts",
    "run_svi",
    "sample_hyperparameters",
    "summary",
    "to_arviz",
    "with_hyperparameters",
]
