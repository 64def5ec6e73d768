"""`make baselines`: what the reference models reach year by year, the bar for every transformer on these data."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from research.task.options import TaskOptions

if TYPE_CHECKING:
    from rich.console import Console

    from pipelines.checks.baseline_walk_forward import BaselineResult, Forecasts
    from research.data.snapshots import Snapshot
    from research.task.build import TaskData
    from research.tracking.store import Store


MEANINGLESS = (
    *("features", "index", "volatility_index", "windows", "windows_from"),
    *("train_end", "validation_end", "test_end", "allow_thin_evidence"),
)
"""Options of a sweep that would change nothing here."""


@dataclass(frozen=True, kw_only=True)
class BaselinesOptions(TaskOptions):
    """Fit every baseline year by year on all that was known before, and print what it reaches with intervals.

    examples:
      make baselines HORIZONS=1,3,5 YEARS=2005-2018
      make baselines DATA=etf SYMBOL=SPY THRESHOLDS=0.005,0.01,0.02
      tapescale baselines --horizons 1 3 5 --years 2005-2018
    """

    horizons: tuple[int, ...] = (1, 3, 5)
    """Sessions ahead."""
    thresholds: tuple[float, ...] = ()
    """Several relative moves, for example 0.005 0.01 0.02 0.03 0.05, instead of the one of --threshold."""
    years: str = ""
    """First and last predicted year, as in 2005-2018; from the first with 1,000 training windows before it if not given."""
    horizon: int = 0
    """Not for baselines; give --horizons."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""


def main(options: BaselinesOptions) -> None:
    """Print a table and leave a run per question."""
    from research.errors import require

    require(not options.horizon, "HORIZON", options.horizon, f"baselines take a list; give HORIZONS={options.horizon}.")
    for name in MEANINGLESS:
        value, usual = getattr(options, name), getattr(BaselinesOptions(), name)
        fix = "baselines see a25s and all days before each year, whatever is given; leave it out."
        require(value == usual, name.upper(), value, fix)
    told = ",".join(map(str, options.thresholds))
    require(options.task != "direction" or not options.thresholds, "THRESHOLDS", told, "TASK=direction has none; leave it out.")
    require(
        bool(options.horizons) and min(options.horizons) >= 1,
        "HORIZONS",
        ",".join(map(str, options.horizons)),
        "give 1 or more sessions.",
    )

    from rich.console import Console as Screen

    from pipelines.checks.baseline_walk_forward import standings, years_of
    from pipelines.checks.baselines_table import print_ending, print_opening, table_of
    from pipelines.data.load_task import ingest
    from research.cli.next_steps import print_next
    from research.task.build import assemble
    from research.tracking.store import open_store

    console = Screen()
    # A pipe or a log file has no width of its own; the table needs about 115 columns.
    screen = console if console.is_terminal else Screen(width=116)
    store = open_store(options.store)
    snapshot = ingest(options.data, store)
    rows: list[tuple[Forecasts, list[BaselineResult]]] = []
    for threshold in options.thresholds or (options.threshold,):
        for horizon in options.horizons:
            asked = replace(options, horizon=horizon, threshold=threshold)
            found = assemble(asked, snapshot.bars, digest=snapshot.digest, source=snapshot.manifest.source)
            if not rows:
                print_opening(found, years_of(found, options.years), screen)
            rows.append((said := _predict(found, options, screen), standings(said)))
            _record(found, snapshot, said, rows[-1][1], store)
    screen.print(table_of(rows))
    print_ending(store, screen)
    print_next(screen, options.store, "make sweep", "make ui")


def _predict(found: TaskData, options: BaselinesOptions, screen: Console) -> Forecasts:
    from rich.progress import track
    from threadpoolctl import threadpool_limits

    from pipelines.checks.baseline_walk_forward import forecasts, pooled, years_of

    years = years_of(found, options.years)
    with threadpool_limits(1):  # three times faster than several threads on matrices this small
        title = f"{found.spec.target.name}, horizon {found.spec.target.horizon}"
        count = years[1] - years[0] + 1
        shown = track(
            forecasts(found, years), title, total=count, console=screen, transient=True, disable=not screen.is_terminal
        )
        folds = list(shown)
    return pooled(folds)


def _record(found: TaskData, snapshot: Snapshot, said: Forecasts, rows: list[BaselineResult], store: Store) -> None:
    """A run of its own kind, which no leaderboard takes for a sweep's baseline."""
    from research.runtime import choose_device, hardware
    from research.task.task import experiment_name
    from research.tracking import schema
    from research.tracking.provenance import provenance
    from research.tracking.run_writer import RunLog
    from research.tracking.spec_codec import encode, part_params

    target = found.prepared.parts[0].target.spec
    years = f"{said.days.year.min()}-{said.days.year.max()}"
    code = provenance(hardware(choose_device("cpu")))
    log = RunLog.start(
        store,
        experiment_id=store.experiment(experiment_name(found.spec)),
        kind="report",
        name=f"baselines h{target.horizon} {years}",
        params={
            **part_params(target),
            "symbol": encode("symbols", tuple(part.symbol for part in found.prepared.parts)),
            "validate_on": encode("validate_on", tuple(dict.fromkeys(said.symbols))),
            "embargo": found.spec.split.embargo,
            "years": years,
            "context_length": found.stationary.context_length,
        },
        tags={
            schema.SNAPSHOT_DIGEST: snapshot.digest,
            schema.TARGET_DIGEST: found.prepared.target_digest,
            **code.tags("tapescale baselines"),
        },
    )

    def write(folder: Path) -> None:
        said.table().to_parquet(folder / schema.WALK_FORWARD_FILE, index=False)
        code.write(folder)

    log.artifacts(write)
    metrics = {"base_rate": float(said.labels.mean()), "n": float(len(said.labels))}
    for row in rows:
        named = {"loss": row.loss.mean, "loss_low": row.loss.low, "loss_high": row.loss.high, "auc": row.auc}
        metrics.update({f"{row.baseline}/{name}": value for name, value in named.items()})
    log.finish("complete", metrics=metrics)
