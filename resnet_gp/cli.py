"""The command line: ``resnet-gp demo``, ``verify`` and ``mean-ode``.

It parses, prints and writes; the work is elsewhere.
"""

from __future__ import annotations

import dataclasses
import os
import sys
from pathlib import Path
from typing import Annotated, Any

# GPyTorch imports pykeops if it is there, which prints that there is no CUDA. Nothing here uses it.
os.environ.setdefault("KEOPS_VERBOSE", "0")

try:
    import typer
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Table
except ImportError as error:
    sys.exit(f'the command line needs an extra ({error}): pip install "resnet-gp[cli]"')

from resnet_gp import __version__

app = typer.Typer(
    help="Gaussian processes from infinitely wide and deep ResNets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


def main() -> None:
    app()


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        typer.echo(__version__)
        raise typer.Exit


@app.command()
def demo(
    data: Annotated[
        Path | None, typer.Option(help="Folder of .npz sets; the diabetes set if left out.")
    ] = None,
    sets: Annotated[
        list[str] | None, typer.Option("--set", help="A set of that folder; may be repeated.")
    ] = None,
    splits: Annotated[int, typer.Option(min=1, help="Splits of each set to run.")] = 3,
    max_samples: Annotated[
        int, typer.Option(min=2, help="Skip sets with more training rows than this.")
    ] = 2000,
    out: Annotated[Path, typer.Option(help="Folder for the figure and the numbers.")] = Path(
        "demo-output"
    ),
) -> None:
    """Fit ResNetGPRegressor and scikit-learn's GP with ARD Matern-5/2 on the same splits."""
    from resnet_gp import demo as work

    console = Console()
    try:
        chosen = (
            [work.shipped_set(splits)]
            if data is None
            else [work.load_set(path, splits) for path in work.find_sets(data, sets)]
        )
        out.mkdir(parents=True, exist_ok=True)
    except (OSError, ValueError) as error:
        raise typer.BadParameter(str(error)) from error
    fitting = [one for one in chosen if len(one.splits[0][0]) <= max_samples]
    for one in chosen:
        if one not in fitting:
            console.print(
                f"{one.name} is skipped: {len(one.splits[0][0])} training rows are more than "
                f"--max-samples {max_samples}"
            )
    if not fitting:
        raise typer.BadParameter(f"no set has at most --max-samples {max_samples} training rows")
    results = []
    steps = sum(len(one.splits) for one in fitting) * len(work.MODELS)
    with _progress(console) as progress:
        task = progress.add_task("", total=steps)
        for one in fitting:
            progress.update(task, description=one.name)
            for result in work.run(one):
                results.append(result)
                progress.advance(task)
    all_scores = [score for score, _ in results]
    console.print(_table(work.summarise(all_scores), work.COVERAGE))
    work.write_json(out / "demo.json", all_scores)
    work.draw(out / "demo.png", [predictions for _, predictions in results])
    console.print(f"wrote {out / 'demo.json'} and {out / 'demo.png'}")


@app.command()
def verify(
    out: Annotated[Path, typer.Option(help="Folder for the report, the figures and the numbers.")],
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: half a minute.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    experiments: Annotated[
        list[str] | None,
        typer.Option(help="Names, with commas or repeated; all if left out."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Of all random numbers.")] = 0,
    memory: Annotated[
        int,
        typer.Option(min=1, help="MiB for the networks alive at a time; no number depends on it."),
    ] = 1024,
) -> None:
    """Check the theory and the kernels against finite random networks, with a report.

    Exits with 1 if a prediction fails. What was done is kept when interrupted: the same command
    goes on from there.
    """
    from resnet_gp.verification import session

    console = Console()
    try:
        lab = session.make_lab(out, quick, device, seed, memory * 2**20)
        chosen = session.choose(experiments, lab)
    except session.SessionError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error
    with _time_left(console) as progress:
        task = progress.add_task("", total=sum(one.cost(lab) for one in chosen.values()))
        watched = dataclasses.replace(lab, progress=lambda cost: progress.advance(task, cost))
        try:
            outcome = session.Outcome()
            for name, one in chosen.items():
                progress.update(task, description=name)
                outcome.run(name, one.run, watched)
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on from here")
            raise typer.Exit(130) from None
    _conclude(console, out, outcome, session.report(out, outcome, lab))


@app.command("mean-ode")
def mean_ode(
    out: Annotated[Path, typer.Option(help="Folder for the report, the figures and the numbers.")],
    quick: Annotated[bool, typer.Option("--quick", help="Small sizes: half a minute.")] = False,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")] = "auto",
    seed: Annotated[int, typer.Option(min=0, help="Of all random numbers.")] = 0,
) -> None:
    """Check the theory of deep ResNets in training against networks, with a report.

    Exits with 1 if a prediction fails. What was done is kept when interrupted: the same command
    goes on from there.
    """
    from resnet_gp.mean_ode import experiments
    from resnet_gp.verification import session

    console = Console()
    try:
        lab = experiments.make_lab(out, quick, device, seed)
    except session.SessionError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error
    chosen = experiments.EXPERIMENTS
    outcome = session.Outcome()
    with _progress(console) as progress:
        task = progress.add_task("", total=sum(one.parts(lab) for one in chosen.values()))
        watched = dataclasses.replace(lab, progress=lambda: progress.advance(task))
        try:
            with experiments.with_workers(watched) as working:
                for name, one in chosen.items():
                    progress.update(task, description=name)
                    outcome.run(name, one.run, working)
        except KeyboardInterrupt:
            console.print("interrupted; the same command goes on from here")
            raise typer.Exit(130) from None
    verdicts = session.report(out, outcome, lab, experiments.TITLE)
    _conclude(console, out, outcome, verdicts)


def _conclude(console: Console, out: Path, outcome: Any, verdicts: list[Any]) -> None:
    """Print the verdicts; the exit code is 1 if one failed."""
    console.print(_verdict_table(outcome, verdicts))
    failed = [verdict.check.name for verdict in verdicts if not verdict.passed]
    console.print(f"wrote {out / 'report.html'} and {out / 'results.json'}")
    if failed:
        console.print(f"{len(failed)} of {len(verdicts)} checks failed: {'; '.join(failed)}")
        raise typer.Exit(1)


def _time_left(console: Console) -> Progress:
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    return Progress(*columns, console=console)


def _verdict_table(outcome: Any, verdicts: list[Any]) -> Table:
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0))
    for title in ("experiment", "theorem"):
        table.add_column(title)
    for title in ("checks", "failed", "seconds"):
        table.add_column(title, justify="right")
    left = iter(verdicts)
    for result in outcome.results:
        own = [next(left) for _ in result.checks]
        failed = sum(not verdict.passed for verdict in own)
        seconds = f"{outcome.seconds[result.name]:.1f}"
        table.add_row(result.name, result.theorem, str(len(own)), str(failed), seconds)
    return table


def _progress(console: Console) -> Progress:
    columns: tuple[Any, ...] = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=console)


def _table(summary: dict[str, dict[str, dict[str, tuple[float, float]]]], level: float) -> Table:
    table = Table(
        title="mean ± standard error over splits",
        caption="resnet-gp: ResNetGPRegressor(); scikit-learn: ARD Matern-5/2 + white noise",
        box=SIMPLE_HEAD,  # fits 80 columns
        show_edge=False,
        padding=(0, 1, 0, 0),
    )
    table.add_column("set")
    table.add_column("model", no_wrap=True)
    for title in ("RMSE", "NLPD", f"in {level:.0%} interval", "seconds"):
        table.add_column(title, justify="right", no_wrap=True)
    for data, models in summary.items():
        for model, measures in models.items():
            cells = (f"{mean:.4g} ± {error:.1g}" for mean, error in measures.values())
            table.add_row(data, model, *cells)
    return table
