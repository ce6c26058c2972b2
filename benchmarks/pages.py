"""Write the tables of README and docs, and the figures of ranks, from the results.

    python benchmarks/pages.py            # replaces the text between the marks
    python benchmarks/pages.py --check    # ends with status 1 if a page is not up to date

A table stands between ``<!-- table: NAME -->`` and ``<!-- end -->``; each name is a function here.
"""

from __future__ import annotations

import argparse
import itertools
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import activations as activations_
import bayesian_optimisation as optimising
import calibration
import likelihood
import numpy as np
import pages_classification
import pages_regression
from full_bayes import WAYS
from harness import HERE, IMAGES, mean_and_error, subplots
from page_format import (
    COVERAGE,
    MINUS,
    difference,
    number,
    paired,
    percent,
    read,
    results,
    table,
)
from pages_regression import KERNELS
from ranks import critical_difference, friedman, mean_ranks

from resnet_gp.mean_ode.advice import DEPTH_CONSTANT, WIDTH_CONSTANT

PAGES = (HERE.parent / "README.md", *sorted((HERE.parent / "docs").glob("*.md")))
MARK = re.compile(r"(<!-- table: ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
NOMINAL = {"numbers": "numbers", "frame": "**frame**", "skrub": "skrub"}


def chains() -> str:
    """Chains and Laplace's method on the first split of small sets; the default's law."""
    done, rows = results("ablation"), []
    fixed: dict[str, Any] = {"split": 0, "components": "auto", "residuals": "student"}
    for name in dict.fromkeys(cell["data"] for cell in done.where(hyperparameters="nuts")):
        ways = [done.where(data=name, hyperparameters=h, **fixed) for h in ("laplace", "nuts")]
        if all(ways):
            measures = ("nlpd", "crps", "seconds")
            values = [
                number(own[0][m], 3 if m != "seconds" else 2) for m in measures for own in ways
            ]
            rows.append([name, str(ways[0][0]["rows"]), *values])
    pairs = ([f"{m}, Laplace", f"{m}, chains"] for m in ("NLPD", "CRPS", "seconds"))
    return table(["set", "rows", *itertools.chain(*pairs)], rows)


def own_data() -> str:
    """PIT of data from the model."""
    return table(*calibration.summary(results("calibration")))


def sparse() -> str:
    names = {
        "resnet": "ours", "matern, Adam": "GPyTorch, Adam",
        "matern, L-BFGS-B": "GPyTorch, L-BFGS-B",
    }  # fmt: skip
    rows = [
        [cell["set"], names[cell["model"]], f"{cell['rows']:,}", number(cell["rmse"], 4),
         number(cell["nlpd"], 4), percent(cell["coverage"]), f"{cell['seconds']:.0f}"]
        for cell in results("sparse_fit").all
    ]  # fmt: skip
    headings = ["set", "model", "rows", "RMSE", "NLPD", COVERAGE, "seconds"]
    return table(headings, rows, text=2)


def fit_time() -> str:
    """A fit beside scikit-learn's, and what restarts gain."""
    found = read("fit_time")
    ours, theirs = "log marginal likelihood", "log marginal likelihood of scikit-learn"
    rows = [
        ["ours", number(found["seconds"]), number(found[ours], 5)],
        ["ours, best of ten more starts", number(found["seconds with restarts"]),
         number(found["log marginal likelihood with restarts"], 5)],
        ["scikit-learn, ARD Matérn-5/2", number(found["seconds of scikit-learn"]),
         number(found[theirs], 5)],
    ]  # fmt: skip
    name = f"{found['data']}, {found['shape'][0]} rows"
    return table([name, "seconds", "log marginal likelihood"], rows)


def many_rows() -> str:
    """Time and memory against the number of simulated rows."""
    rows = []
    for cell in sorted(results("large").where(model="resnet"), key=lambda one: int(one["rows"])):
        peak = f"{cell['peak_bytes'] / 2**30:.2g} GiB"
        values = (number(cell[name], 2) for name in ("rmse", "seconds", "ms_per_prediction"))
        rows.append([f"{cell['rows']:,}", *values, peak])
    headings = ["rows", "RMSE to the function", "seconds of the fit", "ms of a prediction", "peak"]
    return table(headings, rows)


def dask_fit() -> str:
    rows = []
    for found in read("dask_fit"):
        times = (found[f"seconds of the {what}"] for what in ("fit", "predictions"))
        rows.append(
            [f"{found['rows']:,}", str(found["partitions"]), *(f"{value:.0f}" for value in times),
             f"{found['caller peak MiB']:.0f}", f"{max(found['worker peaks MiB']):.0f}",
             f"{found['rmse to the truth']:.3f}", percent(found["within two deviations"])]
        )  # fmt: skip
    headings = [
        "rows", "partitions", "fit, seconds", "100,000 predictions, seconds", "caller, MiB",
        "each worker, MiB", "error", "within two deviations",
    ]  # fmt: skip
    return table(headings, rows)


def convolution_errors() -> str:
    found = read("convolution")["accuracy"]
    rows = [
        ["error", *(f"{one['error']:.0e}" for one in found)],
        ["with half the step", *(f"{one['error with half the step']:.0e}" for one in found)],
        ["evaluations of $E[\\phi\\phi]$", *(str(one["evaluations"]) for one in found)],
    ]
    return table(["w", *(f"{one['w']:g}" for one in found)], rows)


def convolution_seconds() -> str:
    rows = [
        [f'"{one["readout"]}", {one["side"]} x {one["side"]} pixels, n = {one["rows"]}',
         f"{one['seconds']:.0f}"]
        for one in read("convolution")["matrices"]
    ]  # fmt: skip
    return table(["matrix", "seconds"], rows)


def accuracy_terms() -> str:
    rows = [
        [horizon, str(one["table"]), *(str(one[v] or "thousands") for v in ("theta", "c"))]
        for horizon, one in read("accuracy")["terms"].items()
    ]
    return table(["T", "table, in s", "$c_T$, in $\\theta_0$", "$c_T$, in $c_0$"], rows)


def accuracy_errors(dtype: str) -> str:
    rows = [
        [horizon, *(f"{value:.1e}" for value in errors.values())]
        for horizon, errors in read("accuracy")["largest errors"][dtype].items()
    ]
    slope = "$\\partial c_T/\\partial c_0$, relative"
    return table(["T", "$c_T$", "$1 - c_T$, relative", slope, "blocks", "by arccos"], rows)


def chains_and_weights() -> str:
    """Hyperparameters at their mode, by importance sampling and by chains."""
    cells, rows = results("full_bayes"), []
    for name, n in dict.fromkeys((cell["set"], cell["rows"]) for cell in cells.all):
        splits, values = paired(cells, "way", "split", set=name, rows=n)
        losses = {way: values(way, "nlpd") for way in WAYS}
        rows.append(
            [name, str(n), str(splits), *(number(loss.mean()) for loss in losses.values()),
             difference(losses["laplace"] - losses["nuts"]),
             *(f"{np.median(values(way, 'seconds')):.0f}" for way in ("laplace", "nuts"))]
        )  # fmt: skip
    ways = [f'"{way}"' for way in WAYS]
    ends = ['"laplace" less "nuts"', 'seconds, "laplace"', 'seconds, "nuts"']
    return table(["set", "training rows", "splits", *ways, *ends], rows)


def chains_on_yacht() -> str:
    _, values = paired(results("full_bayes"), "way", "split", set="yacht", rows=100)
    rows = []
    for way in WAYS:
        errors = (mean_and_error(values(way, what), ".2f") for what in ("rmse", "nlpd"))
        held = (
            mean_and_error(100 * values(way, what), ".1f")
            for what in ("coverage", "coverage of all others")
        )
        rows.append([f'"{way}"', *errors, *held, f"{np.median(values(way, 'seconds')):.0f}"])
    headings = ["hyperparameters", "RMSE", "negative log density", "% in 90 % intervals"]
    return table([*headings, "% of all other rows", "seconds"], rows)


def scaling() -> str:
    cells = sorted(results("scaling").all, key=lambda cell: cell["rows"])
    rows = [
        [cell["inference"], f"{cell['rows']:,}", number(cell["seconds"]),
         number(cell["seconds of predictions"], 2), number(cell["rmse"]), percent(cell["coverage"])]
        for cell in cells
    ]  # fmt: skip
    return table(["inference", "rows", "seconds", "of 5000 predictions", "error", COVERAGE], rows)


def bayesian_optimisation() -> str:
    """The last regret of each problem and kernel, median and quartiles, and mean ranks."""
    cells = results("bayesian_optimisation")
    names = {"ours": "ours", "matern": "Matérn", "rbf": "RBF", "ibnn": "I-BNN", "saas": "SAAS"}
    models = [m for m in names if cells.where(kernel=m)]
    problems, means = optimising.final_means(cells, models)
    rows = []
    for problem in problems:
        texts = []
        for model in models:
            last = optimising.regrets_of(cells, problem, model)[:, -1]
            low, middle, high = (number(q) for q in np.quantile(last, [0.25, 0.5, 0.75]))
            texts.append(f"{middle} ({low} to {high})")
        seeds = min(len(cells.where(problem=problem, kernel=m)) for m in models)
        rows.append([problem, str(seeds), *texts])
    ranks = (f"{rank:.2f}" for rank in mean_ranks(means))
    rows.append([f"mean rank, p = {friedman(means):.2g}", "", *ranks])
    return table(["problem", "seeds", *(names[m] for m in models)], rows)


def activations() -> str:
    """Mean ranks of the activations over the sets that all have finished, and their time."""
    done = results("activations")
    columns = [activations_.means(done, m) for m in (*activations_.MEASURES, "coverage", "seconds")]
    ranks = [mean_ranks(values) for values in columns[:3]]
    rows = []
    for k, model in enumerate(activations_.ALL):
        covered, seconds = (float(values[:, k].mean()) for values in columns[3:])
        numbers = [*(f"{rank[k]:.2f}" for rank in ranks), percent(covered), number(seconds, 2)]
        rows.append([model, *numbers])
    p = [f"p = {friedman(values):.2g}" for values in columns[:3]]
    rows.append([f"Friedman, {len(columns[0])} sets", *p, "", ""])
    headings = [f"rank by {measure.upper()}" for measure in activations_.MEASURES]
    return table(["activation", *headings, COVERAGE, "seconds of a processor"], rows)


def smooth_sum() -> str:
    """The sum of a rough and a smooth network among the kernels, beside ReLU alone, by set."""
    done, models = results("activations"), ("relu", activations_.SUM)
    measures = ("rmse", "nlpd", "crps", "seconds")
    columns = [activations_.means(done, m, models) for m in measures]
    rows = [
        [name, *(number(value, 3) for values in columns for value in values[i])]
        for i, name in enumerate(activations_.names_of(done, models))
    ]
    headings = [
        f"{m.upper() if m != 'seconds' else 's'}: {title}"
        for m in measures
        for title in ("relu", "with the sum")
    ]
    return table(["set", *headings], rows)


def sizes() -> str:
    """Ratios of the matrix and the likelihood to their peers, by size."""
    times = read("likelihood")
    questions = {
        "matrix, float64": "kernel matrix, float64, against RBF",
        "matrix, float32": "the same in float32",
        "likelihood, one network": "likelihood and gradient, against LAPACK",
        "likelihood, two networks": "the same with two networks",
    }
    rows = []
    for question, title in questions.items():
        own = [times[f"{question}, n = {n}"] for n in likelihood.SIZES]
        rows.append(
            [title, *(f"{number(1e3 * one['seconds'], 2)} ms, {one['ratio']:.2f}" for one in own)]
        )
    return table(["", *(f"n = {n}" for n in likelihood.SIZES)], rows)


def kernel_times() -> str:
    """The kernel against its peers."""
    times, ours, bnn = read("kernels"), "ResNetLimitKernel", "InfiniteWidthBNNKernel"

    def ratio(question: str, dtype: str, one: str, other: str = "", unit: str = "ratio") -> str:
        value = times[f"{question}, {dtype}, {one}"][unit]
        if other:
            value /= times[f"{question}, {dtype}, {other}"][unit]
        return number(value, 2)

    lines: dict[str, tuple[str, ...]] = {
        "kernel matrix, time against `RBFKernel`": ("forward", ours),
        "with gradients, time against ARD `MaternKernel(2.5)`": ("with gradients", ours),
        "with gradients, peak memory against the same": ("peak", ours),
        "BoTorch's `InfiniteWidthBNNKernel(depth=3)`, time against ours": ("forward", bnn, ours),
        "the same with gradients": ("with gradients", bnn, ours),
        "the same, memory kept for the backward pass, against ours": (
            "kept for backward",
            bnn,
            ours,
        ),
    }
    rows = [
        [title, *(ratio(question, dtype, *which) for dtype in ("float64", "float32"))]
        for title, (question, *which) in lines.items()
    ]
    return table(["", "float64", "float32"], rows)


def family() -> str:
    """The other kernels against the limit's."""
    times, rows = read("kernels"), []
    for key, own in times.items():
        if key.startswith("family, float64, ") and "table" in own:
            name = key.removeprefix("family, float64, ")
            other = times[f"family, float32, {name}"]
            ratios = [number(one["ratio"], 2) for one in (own, other)]
            made = "" if "block bias" in name else f"{number(own['table'], 1)} s"
            rows.append([name, *ratios, made])  # block biases are integrated pair by pair
    return table(["kernel", "float64", "float32", "tables"], rows)


def products() -> str:
    """A product with a large matrix."""
    times, rows = read("kernels"), []
    for key, own in times.items():
        if key.startswith("matrix-vector product"):
            name = key.rpartition(", ")[2]
            rows.append([name, number(own["seconds"], 2), f"{own['bytes'] / 2**20:.0f} MiB"])
    return table(["", "seconds", "memory"], rows)


def import_time() -> str:
    times = read("import_time")
    rows = [
        [f"`{name}`", number(one["seconds"]), number(one["against gpytorch"])]
        for name, one in times.items()
    ]
    return table(["", "seconds", "ratio"], rows)


def few_rows() -> str:
    """Errors and coverage of few training rows."""
    cells, rows = results("small_data"), []
    models = {"resnet": "the default", "one": "one kernel", **dict(list(KERNELS.items())[1:])}
    for case in dict.fromkeys(cell["case"] for cell in cells.all):
        own = [cells.where(case=case, model=model) for model in models]
        errors = (np.array([cell["rmse"] for cell in each]) for each in own)
        covered = (float(np.mean([cell["coverage"] for cell in each])) for each in own)
        texts = (f"{e.mean():.1f} ± {e.std(ddof=1) / len(e) ** 0.5:.1f}" for e in errors)
        rows.append([case, *texts, *(percent(one, 0) for one in covered)])
    first, *others = models.values()
    headings = ["rows", f"RMSE: {first}", *others, f"{COVERAGE}: {first}", *others]
    return table(headings, rows)


def nominal(name: str, task: str, ways: dict[str, str], measures: dict[str, str]) -> str:
    """Nominal columns: means over the splits that all ways have finished, set by set.

    Args:
        ways: titles by the names of the results.
        measures: formats by the names of the results.
    """
    cells = results(name)
    found: list[tuple[str, list[list[float]]]] = []
    for one in dict.fromkeys(cell["set"] for cell in cells.where(task=task)):
        by_way = {way: cells.where(task=task, set=one, way=way) for way in ways}
        shared = set.intersection(*({cell["split"] for cell in own} for own in by_way.values()))
        means = [
            [float(np.mean([c[m] for c in own if c["split"] in shared])) for m in measures]
            for own in by_way.values()
        ]
        if shared:
            found.append((one, means))
    mean = np.mean([values for _, values in found], axis=0).tolist()
    rows = []
    for one, values in [*found, ("mean", mean)]:
        texts = (" / ".join(map(format, value, measures.values())) for value in values)
        rows.append([one, *(text.translate(MINUS).replace("%", " %") for text in texts)])
    return table(["set", *ways.values()], rows)


def images() -> str:
    """Digits: means over the draws that all models have finished, and errors of paired gains."""
    cells = results("images")
    models = list(dict.fromkeys(cell["model"] for cell in cells.all))
    rows = []
    for size in sorted({cell["rows"] for cell in cells.all}):
        draws, values = paired(cells, "model", "draw", rows=size)
        if not draws:
            continue
        texts = [
            f"{percent(values(name, 'accuracy').mean())} / {values(name, 'log_loss').mean():.3f} / "
            f"{values(name, 'calibration_error').mean():.3f}"
            for name in models
        ]
        gains = [
            difference(100 * (values(models[0], "accuracy") - values(models[1], "accuracy"))),
            difference(values(models[0], "log_loss") - values(models[1], "log_loss")),
        ]
        rows.append([str(size), str(draws), *texts, " / ".join(gains)])
    gain = "gain over connected: points / log-loss"
    return table(["training images", "draws", *models, gain], rows)


def samplers() -> str:
    found = read("samplers")
    seconds = found["n = 1000, L = 100, m = 4: seconds for a network"]
    many = found["n = L = 5000, m = 2, 200 networks"]
    rows = [
        ["one network, width 1000, depth 100, four inputs",
         f"{number(seconds['exact'], 2)} s", f"{number(seconds['explicit'], 2)} s"],
        ["200 networks, width and depth 5000, two inputs",
         f"{many['seconds']:.0f} s, {many['peak MiB']:.0f} MiB", ""],
    ]  # fmt: skip
    return table(["", "exact in law", "explicit"], rows)


def trainers() -> str:
    found = read("mean_ode_trainer")
    names = {
        "batched trainer": "batched, without a graph over depth",
        "autograd, batched": "torch's autograd, batched",
        "autograd, loop": "torch's autograd, in a loop",
    }
    rows = [
        [
            title,
            f"{found['seconds per step'][name]:.2f}",
            f"{found['added peak MiB'][name]:.0f} MiB",
        ]
        for name, title in names.items()
    ]
    return table(["", "seconds per step", "added peak memory"], rows)


def rates_in_training() -> str:
    """Constants of the error of deep ResNets in training, by each way of fitting them."""
    ways = read("mean_ode")["experiments"]["rates"]["ways"]
    titles = {
        "in squares, asymptotic": "terms in squares, asymptotic cells",
        "plain sum, asymptotic": "plain sum, the same errors",
        "plain sum, paper's protocol": "plain sum, the paper's protocol",
        "in squares, paper's protocol": "terms in squares, the paper's protocol",
    }
    rows = [["the paper, plain sum", f"{DEPTH_CONSTANT:g}", f"{WIDTH_CONSTANT:g}"]]
    for name, title in titles.items():
        pairs = zip(*ways[name], strict=True)
        rows.append([title, *(f"{mean:.3f} ± {error:.3f}" for mean, error in pairs)])
    return table(["fit", "constant of 1/L", "constant of √D/√(LM)"], rows)


def conformal() -> str:
    """Coverage and width of conformal intervals, over training sets."""
    rows = []
    for way, found in read("conformal").items():
        shares = found["coverage"], found["coverage where x_0 > 1"]
        cells = [f"{percent(mean)} ± {percent(error)}" for mean, error in shares]
        rows.append([way, *cells, "{:.2f} ± {:.2f}".format(*found["width"])])
    where = "coverage where the noise is largest (x₀ > 1)"
    return table(["intervals", "coverage", where, "mean width"], rows)


def first_use() -> str:
    found = read("first_use")
    names = {name: one for name, one in found.items() if isinstance(one, dict)}
    rows = [
        [name, *(number(one[way], 2) for way in ("empty cache", "full cache", "compiling"))]
        for name, one in names.items()
    ]
    return table(["seconds", "empty cache", "full cache", "difference"], rows)


TABLES: dict[str, Callable[[], str]] = {
    **pages_regression.TABLES,
    **pages_classification.TABLES,
    "chains": chains,
    "calibration": own_data,
    "sparse-fit": sparse,
    "fit-time": fit_time,
    "many-rows": many_rows,
    "scaling": scaling,
    "bayesian-optimisation": bayesian_optimisation,
    "activations": activations,
    "smooth-sum": smooth_sum,
    "sizes": sizes,
    "kernel-times": kernel_times,
    "kernel-family": family,
    "kernel-products": products,
    "import-time": import_time,
    "first-use": first_use,
    "samplers": samplers,
    "trainers": trainers,
    "rates-in-training": rates_in_training,
    "conformal": conformal,
    "few-rows": few_rows,
    "nominal-regression": lambda: nominal(
        "nominal",
        "regression",
        {**NOMINAL, "unrelated": "unrelated"},
        {"crps": ".3f", "nlpd": ".2f"},
    ),
    "nominal-classification": lambda: nominal(
        "nominal", "classification", NOMINAL, {"accuracy": ".1%", "log_loss": ".3f"}
    ),
    "nominal-spread": lambda: nominal(
        "nominal_choice",
        "regression",
        {
            "0.01": "0.01: shared",
            "0.25": "0.25",
            "0.5": "**0.5**",
            "1": "1",
            "unrelated": "unrelated",
        },
        {"crps": ".3f"},
    ),
    "images": images,
    "dask-fit": dask_fit,
    "convolution-errors": convolution_errors,
    "convolution-seconds": convolution_seconds,
    "accuracy-terms": accuracy_terms,
    "accuracy-float64": lambda: accuracy_errors("float64"),
    "accuracy-float32": lambda: accuracy_errors("float32"),
    "chains-and-weights": chains_and_weights,
    "chains-on-yacht": chains_on_yacht,
}


def draw() -> None:
    """Draw mean ranks with their critical differences."""
    figures = pages_regression.panels() | pages_classification.panels()
    for name, panels in figures.items():
        figure, axes = subplots((5.2 * len(panels), 2.9), 1, len(panels), squeeze=False)
        for axis, (title, (values, models)) in zip(axes[0], panels.items(), strict=True):
            critical_difference(mean_ranks(values), models, len(values), axis)
            axis.set_title(f"{title}, {len(values)} sets")
        figure.savefig(IMAGES / name, dpi=100)


def filled(text: str) -> str:
    """The page with new tables.

    Raises:
        KeyError: a mark names no table.
    """
    return MARK.sub(lambda mark: mark[1] + TABLES[mark[2]]() + mark[3], text)


def main(arguments: list[str] | None = None) -> list[Path]:
    """Update the pages; return those that were not up to date."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--check", action="store_true", help="write nothing")
    options = parser.parse_args(arguments)
    stale = []
    for page in PAGES:
        before = page.read_text()
        after = filled(before)
        if after != before:
            stale.append(page)
            print(f"{page.name}: {'not up to date' if options.check else 'written'}")
            if not options.check:
                page.write_text(after)
    if not options.check:
        draw()
    return stale


if __name__ == "__main__":
    sys.exit(bool(main()) and "--check" in sys.argv)
