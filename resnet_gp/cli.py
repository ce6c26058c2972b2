"""The command line: only parsing of options and printing belong here."""

from __future__ import annotations

import dataclasses
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from enum import Enum
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

try:
    import typer
    from rich.box import SIMPLE_HEAD
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        MofNCompleteColumn,
        Progress,
        ProgressColumn,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )
    from rich.table import Table
    from rich.text import Text
except ImportError as error:
    sys.exit(f'the command line needs an extra ({error}): pip install "resnet-gp[cli]"')

if TYPE_CHECKING:
    from resnet_gp.report.lab import Lab

app = typer.Typer(
    help="Gaussian processes from infinitely wide and deep ResNets.",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
)


_Separator = Annotated[str, typer.Option(help='Separator of the columns: one character, or "tab".')]
_ReportFolder = Annotated[Path, typer.Option(help="Folder for the report and its figures.")]
_Quick = Annotated[bool, typer.Option("--quick", help="Use small sizes: a minute or two.")]
_Device = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
_MOST_SEED = 2**32 - 1  # of NumPy's generators
_Seed = Annotated[int, typer.Option(min=0, max=_MOST_SEED, help="Seed of all random numbers.")]
_RELEVANT = 10  # columns to print


class TaskName(str, Enum):
    auto = "auto"
    regression = "regression"
    classification = "classification"


def main() -> None:
    app()


@app.callback(invoke_without_command=True)
def _root(
    show_version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> None:
    if show_version:
        typer.echo(version("resnet-gp"))
        raise typer.Exit


@app.command()
def fit(
    data: Annotated[Path, typer.Argument(metavar="DATA.csv", help="A table with a header.")],
    target: Annotated[str, typer.Option(metavar="COLUMN", help="The column to predict.")],
    out: Annotated[
        Path, typer.Option(metavar="DIR", help="Folder for the model, the figures and the report.")
    ],
    task: Annotated[
        TaskName, typer.Option(help="auto: regression for numbers, classification for texts.")
    ] = TaskName.auto,
    folds: Annotated[int, typer.Option(min=2, help="Number of folds of the cross-validation.")] = 5,
    seed: Annotated[
        int, typer.Option(min=0, max=_MOST_SEED, help="Seed of the folds and of the fits.")
    ] = 0,
    drop: Annotated[
        list[str] | None,
        typer.Option(
            metavar="COLUMN", help="Leave this column out, such as a name; may be repeated."
        ),
    ] = None,
    categorical: Annotated[
        list[str] | None,
        typer.Option(metavar="COLUMN", help="Take its numbers as categories; may be repeated."),
    ] = None,
    separator: _Separator = ",",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the files of another fit in DIR.")
    ] = False,
) -> None:
    """Train on all rows of a CSV file, cross-validate, and save the model with a report.

    Texts become indicators of their categories. Missing numbers take the median of the column, and
    one more feature marks them. resnet-gp predict does the same to new rows.
    """
    from resnet_gp.tables import files, fit_report, training
    from resnet_gp.tables import plan as planning
    from resnet_gp.tables.reading import read_table

    console = Console()
    with _table_errors("DATA.csv"):
        files.check_folder(out, data, overwrite)
        plan = planning.make_plan(
            read_table(data, separator),
            target,
            task=task.value,
            folds=folds,
            seed=seed,
            drop=drop or (),
            categorical=categorical or (),
        )
        _print_lines(console, planning.describe(plan))
        with _progress(console, MofNCompleteColumn(), TimeElapsedColumn()) as progress:
            bar = progress.add_task("", total=plan.steps)
            steps = iter(range(plan.steps))
            try:
                result = training.train(
                    plan,
                    lambda name: progress.update(bar, description=name, completed=next(steps)),
                )
            except KeyboardInterrupt:
                console.print("interrupted; nothing was written")
                raise typer.Exit(130) from None
            progress.update(bar, completed=plan.steps)
        try:
            files.write_fit(out, plan, result)
        except OSError as error:
            raise typer.BadParameter(str(error), param_hint="--out") from error
    console.print(_scores_table(plan.task.headings(), result.scores))
    _print_lines(console, fit_report.conclude(plan, result))
    if result.relevance:
        console.print(_relevance_table(result.relevance))
    _print_lines(console, [f"wrote {', '.join(files.FILES)} in {out}"])


@app.command()
def predict(
    model: Annotated[
        Path, typer.Argument(metavar="MODEL", help="DIR/model of resnet-gp fit --out DIR.")
    ],
    data: Annotated[
        Path,
        typer.Argument(metavar="NEW.csv", help="A table with the columns of the training table."),
    ],
    out: Annotated[Path, typer.Option(metavar="CSV", help="File for the predictions.")],
    level: Annotated[
        float, typer.Option(help="Probability of the intervals of a regression.")
    ] = 0.9,
    separator: _Separator = ",",
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace the file for the predictions.")
    ] = False,
) -> None:
    """Predict the rows of a CSV file: mean, deviation and interval, or class and probabilities.

    Columns may be in any order. If the table has the target as well, scores are printed.
    """
    from resnet_gp.progress import is_stream
    from resnet_gp.tables import files
    from resnet_gp.tables.predict import predict_table
    from resnet_gp.tables.reading import read_table
    from resnet_gp.tables.saved import COLUMNS, SavedModel

    if not 0 < level < 1:
        raise typer.BadParameter(f"must be between 0 and 1, got {level:g}", param_hint="--level")
    console = Console(stderr=is_stream(out))  # which may be the standard output
    with _table_errors("NEW.csv"):
        files.check_file(out, (data, model, model.parent / COLUMNS), overwrite)
        predictions = predict_table(SavedModel.load(model, level), read_table(data, separator))
        try:
            files.write_predictions(out, predictions)
        except OSError as error:
            raise typer.BadParameter(str(error), param_hint="--out") from error
    _print_lines(console, [f"warning: {note}" for note in predictions.notes])
    if predictions.scores is not None:
        headings = predictions.task.headings()
        console.print(_scores_table(headings, {f"{predictions.scored} rows": predictions.scores}))
    _print_lines(console, [f"wrote {out}"])


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for the figure and the numbers.")] = Path(
        "demo-output"
    ),
) -> None:
    """Fit ResNetGPRegressor and scikit-learn's GP with ARD Matern-5/2 on the same splits."""
    from resnet_gp import demo as work

    console = Console()
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise typer.BadParameter(str(error), param_hint="--out") from error
    X, y, splits = work.load()
    steps = len(splits) * len(work.models(X.shape[1]))
    with _progress(console, MofNCompleteColumn(), TimeElapsedColumn()) as progress:
        fits = work.run(X, y, splits)
        results = list(progress.track(fits, total=steps, description=work.DATA))
    console.print(_demo_table(work.summarise(results)))
    work.write_json(out / "demo.json", results)
    work.draw(out / "demo.png", results)
    console.print(f"wrote {out / 'demo.json'} and {out / 'demo.png'}")


@app.command("compile")
def compile_loops() -> None:
    """Compile the package's loops for this processor, so that the first fit does not wait."""
    from resnet_gp.models.warm_up import compile_loops as steps

    typer.echo("compiling: this takes about half a minute")
    try:
        for step in steps():
            typer.echo(f"compiled for {step}")
    except RuntimeError as error:
        sys.exit(f"Error: {error}")


@app.command()
def verify(
    out: _ReportFolder,
    quick: _Quick = False,
    device: _Device = "auto",
    experiments: Annotated[
        list[str] | None,
        typer.Option(help="Names, joined by commas or repeated; all by default."),
    ] = None,
    seed: _Seed = 0,
    memory: Annotated[
        int,
        typer.Option(min=1, help="MiB for networks in memory; results do not depend on it."),
    ] = 1024,
) -> None:
    """Test the theory and the kernels on finite random networks, with a report.

    Exits with 1 if a prediction fails. After an interrupt, the same command continues.
    """
    from resnet_gp.report import session
    from resnet_gp.verification import experiments as work
    from resnet_gp.verification.simulation_lab import SimulationLab

    try:
        place, folder = session.find_device(device), session.make_folder(out)
        lab = SimulationLab(seed, quick, place, folder, memory=memory * 2**20)
        chosen = work.choose(experiments, lab)
    except session.SessionError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error
    _run_experiments(out, work.TITLE, lab, chosen)


@app.command("mean-ode")
def mean_ode(
    out: _ReportFolder,
    quick: _Quick = False,
    device: _Device = "auto",
    seed: _Seed = 0,
) -> None:
    """Test the theory of deep ResNets in training on trained networks, with a report.

    Exits with 1 if a prediction fails. After an interrupt, the same command continues.
    """
    from resnet_gp.mean_ode import experiments as work
    from resnet_gp.mean_ode.training_lab import TrainingLab
    from resnet_gp.report import session

    try:
        lab = TrainingLab(seed, quick, session.find_device(device), session.make_folder(out))
    except session.SessionError as error:
        raise typer.BadParameter(str(error), param_hint=error.option) from error
    _run_experiments(out, work.TITLE, lab, work.EXPERIMENTS)


def _run_experiments(out: Path, title: str, lab: Lab, chosen: Mapping[str, Any]) -> None:
    """Run experiments with a progress bar and write the report; exits with 1 if a check fails."""
    from resnet_gp.report import session

    console = Console()
    outcome = session.Outcome()
    columns = TaskProgressColumn(), TimeElapsedColumn(), TextColumn("left"), TimeRemainingColumn()
    with _progress(console, *columns) as progress:
        task = progress.add_task("", total=sum(one.cost(lab) for one in chosen.values()))
        watched = dataclasses.replace(lab, progress=lambda cost: progress.advance(task, cost))
        try:
            with watched.workers() as working:
                for name, one in chosen.items():
                    progress.update(task, description=name)
                    outcome.add(name, one.run, working)
        except KeyboardInterrupt:
            console.print("interrupted; run the same command to continue")
            raise typer.Exit(130) from None
    verdicts = session.report(out, title, outcome, lab)
    console.print(_verdict_table(outcome, verdicts))
    failed = [verdict.check.name for verdict in verdicts if not verdict.passed]
    console.print(f"wrote {out / 'report.html'} and {out / 'results.json'}")
    if failed:
        console.print(f"{len(failed)} of {len(verdicts)} checks failed: {'; '.join(failed)}")
        raise typer.Exit(1)


@contextmanager
def _table_errors(table: str) -> Iterator[None]:
    """Turn errors about a table or an option into errors of the command line."""
    from resnet_gp.tables.reading import TableError

    try:
        yield
    except TableError as error:
        raise typer.BadParameter(str(error), param_hint=error.option or table) from error
    except ModuleNotFoundError as error:
        if error.name not in ("pandas", "safetensors"):
            raise
        raise typer.BadParameter(f'{error}: pip install "resnet-gp[cli]"') from error


def _print_lines(console: Console, lines: list[str]) -> None:
    """Print texts literally: brackets in names of the user's are no markup."""
    for line in lines:
        console.print(Text(line))


def _new_table(left: Sequence[str], right: Sequence[str], **options: Any) -> Table:
    """An empty table with columns of texts on the left and of numbers on the right."""
    table = Table(box=SIMPLE_HEAD, show_edge=False, padding=(0, 1, 0, 0), **options)
    for title in left:
        table.add_column(title)
    for title in right:
        table.add_column(title, justify="right")
    return table


def _scores_table(headings: dict[str, str], scores: dict[str, Any]) -> Table:
    table = _new_table([""], list(headings.values()))
    for name, row in scores.items():
        table.add_row(name, *(_number(key, row[key]) for key in headings))
    return table


def _number(name: str, value: float | None) -> str:
    if value is None:
        return "-"
    return f"{100 * value:.1f} %" if name in ("coverage", "accuracy") else f"{value:.4g}"


def _relevance_table(relevance: dict[str, float]) -> Table:
    more = len(relevance) - _RELEVANT
    caption = f"and {more} more in report.json" if more > 0 else None
    table = _new_table(["column"], ["deviation / lengthscale"], caption=caption)
    for name, value in list(relevance.items())[:_RELEVANT]:
        table.add_row(Text(name), f"{value:.3g}")
    return table


def _demo_table(summary: dict[str, dict[str, tuple[float, float]]]) -> Table:
    from resnet_gp.demo import DATA
    from resnet_gp.predictive.scores import LEVEL

    table = _new_table(
        [DATA],
        ["RMSE", "NLPD", "CRPS", f"in {LEVEL:.0%} interval", "seconds"],
        title="mean ± standard error over splits",
        caption="resnet-gp: ResNetGPRegressor(); scikit-learn: ARD Matern-5/2 + white noise",
    )
    for column in table.columns:
        column.no_wrap = True
    for model, measures in summary.items():
        cells = [f"{mean:.3g} ± {error:.1g}" for mean, error in list(measures.values())[:3]]
        (covered, _), (seconds, _) = measures["coverage"], measures["seconds"]
        table.add_row(model, *cells, f"{covered:.1%}", f"{seconds:.2g}")
    return table


def _verdict_table(outcome: Any, verdicts: list[Any]) -> Table:
    table = _new_table(["experiment", "theorem"], ["checks", "failed", "seconds"])
    left = iter(verdicts)
    for result in outcome.results:
        own = [next(left) for _ in result.checks]
        failed = sum(not verdict.passed for verdict in own)
        seconds = f"{outcome.seconds[result.name]:.1f}"
        table.add_row(result.name, result.theorem, str(len(own)), str(failed), seconds)
    return table


def _progress(console: Console, *columns: ProgressColumn) -> Progress:
    """A bar with these columns on its right."""
    return Progress(TextColumn("{task.description}"), BarColumn(), *columns, console=console)
