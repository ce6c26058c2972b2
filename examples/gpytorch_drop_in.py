# %% [markdown]
# # In the place of another kernel
#
# GPyTorch's first tutorial, an exact Gaussian process trained with Adam, on two data sets. The
# models differ in one line: the kernel. The table has the log marginal likelihood of 150 training
# rows and the negative log predictive density (NLPD) of the others, means over random splits, and
# the difference to RBF with its standard error. On scikit-learn's diabetes set, noisy and nearly
# linear, RBF does as well. On Friedman's function the ResNet kernel with a prior is a little ahead,
# partly because RBF's lengthscales need more steps: with 700 steps and 200 rows, the gap is 0.02.
#
#     python examples/gpytorch_drop_in.py [--quick] [--figure FILE]

# %%
from __future__ import annotations

import argparse
import io
from pathlib import Path

import gpytorch
import numpy as np
import torch
from gpytorch.distributions import MultivariateNormal
from gpytorch.kernels import Kernel, RBFKernel, ScaleKernel
from gpytorch.likelihoods import GaussianLikelihood
from gpytorch.priors import LogNormalPrior
from sklearn.datasets import load_diabetes, make_friedman1
from sklearn.model_selection import train_test_split
from sklearn.preprocessing import scale
from torch import Tensor

from resnet_gp import ResNetLimitKernel


# %%
class Regression(gpytorch.models.ExactGP):
    def __init__(self, x: Tensor, y: Tensor, kernel: Kernel) -> None:
        super().__init__(x, y, GaussianLikelihood())
        self.mean_module = gpytorch.means.ConstantMean()
        self.covar_module = ScaleKernel(kernel)
        self.double()

    def forward(self, x: Tensor) -> MultivariateNormal:
        return MultivariateNormal(self.mean_module(x), self.covar_module(x))


# %% [markdown]
# The ResNet kernel needs centred inputs (these are standardised) and `input_bias`, without which
# the prior variance is zero at the centre. The growth factor is left out, as the output scale
# absorbs it.
#
# The third model has a prior on the lengthscale, like any GPyTorch kernel. Without it, fits to
# Friedman's function stop in a local optimum: the lengthscale of the third feature, whose effect is
# symmetric about the centre, grows without end, and the effect becomes noise.


# %%
def kernel(name: str, d: int) -> Kernel:
    if name == "RBF":
        return RBFKernel(ard_num_dims=d)
    prior = LogNormalPrior(0.0, 1.0) if name == "ResNet, prior" else None
    return ResNetLimitKernel(
        input_bias=True, variance="no_growth", ard_num_dims=d, lengthscale_prior=prior
    )


NAMES = ("RBF", "ResNet", "ResNet, prior")


def train(model: Regression, steps: int) -> list[float]:
    """Log marginal likelihood plus log priors before each step, in nats."""
    x, y = model.train_inputs[0], model.train_targets
    objective = gpytorch.mlls.ExactMarginalLogLikelihood(model.likelihood, model)
    optimiser = torch.optim.Adam(model.parameters(), lr=0.1)
    values = []
    model.train()
    for _ in range(steps):
        optimiser.zero_grad()
        loss = -objective(model(x), y)
        loss.backward()
        optimiser.step()
        values.append(-len(y) * loss.item())
    return values


@torch.no_grad()
def log_likelihood(model: Regression) -> float:
    """Log marginal likelihood of the training rows, without priors."""
    model.train()
    return model.likelihood(model(*model.train_inputs)).log_prob(model.train_targets).item()


@torch.no_grad()
def predict(model: Regression, x: Tensor) -> torch.distributions.Normal:
    """The marginal laws of new observations."""
    model.eval()
    law = model.likelihood(model(x))
    return torch.distributions.Normal(law.mean, law.variance.sqrt())


# %%
def datasets() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    return {
        "diabetes": load_diabetes(return_X_y=True),
        "Friedman": make_friedman1(400, noise=1.0, random_state=0),
    }


def restored(model: Regression, name: str) -> Regression:
    """A new model with the parameters of this one, saved and loaded."""
    file = io.BytesIO()
    torch.save(model.state_dict(), file)
    file.seek(0)
    x = model.train_inputs[0]
    copy = Regression(x, model.train_targets, kernel(name, x.shape[-1]))
    copy.load_state_dict(torch.load(file, weights_only=True))
    return copy


def compare(splits: int, steps: int) -> dict[str, dict[str, np.ndarray]]:
    """For each set and kernel, `splits x (steps + 2)`: the objective, log likelihood, NLPD."""
    found = {}
    for title, (X, y) in datasets().items():
        x, y = torch.tensor(scale(X)), torch.tensor(scale(y))
        rows: dict[str, list[list[float]]] = {name: [] for name in NAMES}
        for seed in range(splits):
            few, rest = train_test_split(np.arange(len(y)), train_size=150, random_state=seed)
            for name in NAMES:
                model = Regression(x[few], y[few], kernel(name, x.shape[1]))
                values = [*train(model, steps), log_likelihood(model)]
                law = predict(model, x[rest])
                rows[name].append([*values, -law.log_prob(y[rest]).mean().item()])
                assert torch.equal(predict(restored(model, name), x[rest]).mean, law.mean)
        found[title] = {name: np.array(parts) for name, parts in rows.items()}
    return found


# %%
def draw(path: Path, found: dict[str, dict[str, np.ndarray]]) -> None:
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    FigureCanvasAgg(figure)
    for axis, (title, rows) in zip(figure.subplots(1, 2), found.items(), strict=True):
        for colour, (name, values) in zip(("#d1495b", "0.6", "#0b5fa5"), rows.items(), strict=True):
            axis.plot(
                values[:, :-2].T, color=colour, lw=1, label=[name] + [None] * (len(values) - 1)
            )
        axis.set(title=title, xlabel="step of Adam", ylabel="log likelihood and priors")
        bottom = np.median([values[:, -3] for values in rows.values()]) - 60
        axis.set_ylim(bottom=bottom)
        axis.legend(frameon=False)
    figure.savefig(path, dpi=90)


# %%
def main(arguments: list[str] | None = None) -> dict[str, dict[str, np.ndarray]]:
    parser = argparse.ArgumentParser(description="In the place of another kernel")
    parser.add_argument("--quick", action="store_true", help="one split, few steps")
    parser.add_argument("--figure", type=Path, help="where to draw the training")
    options = parser.parse_args(arguments)
    found = compare(*(1, 15) if options.quick else (3, 300))
    for title, rows in found.items():
        print(f"{title:14s} log likelihood    NLPD   less that of RBF")
        for name, values in rows.items():
            gap = values[:, -1] - rows["RBF"][:, -1]
            error = gap.std(ddof=1) / len(gap) ** 0.5 if len(gap) > 1 else np.nan
            likelihood, density = values[:, -2:].mean(0)
            print(f"{name:14s} {likelihood:14.1f} {density:7.3f}   {gap.mean():+.3f} ± {error:.3f}")
    if options.figure:
        draw(options.figure, found)
    return found


# %%
if __name__ == "__main__":
    main()
