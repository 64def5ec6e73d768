"""`make baselines`: walk-forward results of the reference models, the level that a transformer must beat."""

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
"""Options of a sweep that have no effect on baselines."""


@dataclass(frozen=True, kw_only=True)
class BaselinesOptions(TaskOptions):
    """Fit every baseline year by year on all earlier days, and print the results with intervals.

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
    """Print a table and store one run per question."""
    from research.errors import require

    require(not options.horizon, "HORIZON", options.horizon, f"baselines take a list; give HORIZONS={options.horizon}.")
    for name in MEANINGLESS:
        value, usual = getattr(options, name), getattr(BaselinesOptions(), name)
        fix = "baselines see a25s and all days before each year, so this option has no effect; leave it out."
        require(value == usual, name.upper(), value, fix)
    typed = ",".join(map(str, options.thresholds))
    require(options.task != "direction" or not options.thresholds, "THRESHOLDS", typed, "TASK=direction has none; omit it.")
    require(
        bool(options.horizons) and min(options.horizons) >= 1,
        "HORIZONS",
        ",".join(map(str, options.horizons)),
        "give 1 or more sessions.",
    )

    from pipelines.checks.baseline_walk_forward import standings, years_of
    from pipelines.checks.baselines_table import print_ending, print_opening, table_of
    from pipelines.data.load_task import ingest
    from research.cli.console import console
    from research.cli.next_steps import print_next
    from research.task.build import assemble
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store)
    snapshot = ingest(options.data, store)
    rows: list[tuple[Forecasts, list[BaselineResult]]] = []
    for threshold in options.thresholds or (options.threshold,):
        for horizon in options.horizons:
            question = replace(options, horizon=horizon, threshold=threshold)
            data = assemble(question, snapshot.bars, digest=snapshot.digest, source=snapshot.manifest.source)
            if not rows:
                print_opening(data, years_of(data, options.years), screen)
            predictions = _predict(data, options, screen)
            rows.append((predictions, standings(predictions)))
            _record(data, snapshot, predictions, rows[-1][1], store)
    screen.print(table_of(rows))
    print_ending(store, screen)
    print_next(screen, options.store, "make sweep", "make ui")


def _predict(data: TaskData, options: BaselinesOptions, screen: Console) -> Forecasts:
    from rich.progress import track
    from threadpoolctl import threadpool_limits

    from pipelines.checks.baseline_walk_forward import forecasts, pooled, years_of

    years = years_of(data, options.years)
    with threadpool_limits(1):  # On matrices this small one thread is three times faster than several.
        title = f"{data.spec.target.name}, horizon {data.spec.target.horizon}"
        count = years[1] - years[0] + 1
        shown = track(
            forecasts(data, years), title, total=count, console=screen, transient=True, disable=not screen.is_terminal
        )
        folds = list(shown)
    return pooled(folds)


def _record(data: TaskData, snapshot: Snapshot, predictions: Forecasts, rows: list[BaselineResult], store: Store) -> None:
    """Store the results in a run of kind report, which a leaderboard does not mistake for a sweep's baseline."""
    from research.runtime import choose_device, hardware
    from research.task.task import experiment_name
    from research.tracking import schema
    from research.tracking.provenance import provenance
    from research.tracking.run_writer import RunLog
    from research.tracking.spec_codec import encode, part_params

    target = data.prepared.parts[0].target.spec
    years = f"{predictions.days.year.min()}-{predictions.days.year.max()}"
    code = provenance(hardware(choose_device("cpu")))
    log = RunLog.start(
        store,
        experiment_id=store.experiment(experiment_name(data.spec)),
        kind="report",
        name=f"baselines h{target.horizon} {years}",
        params={
            **part_params(target),
            "symbol": encode("symbols", tuple(part.symbol for part in data.prepared.parts)),
            "validate_on": encode("validate_on", tuple(dict.fromkeys(predictions.symbols))),
            "embargo": data.spec.split.embargo,
            "years": years,
            "context_length": data.stationary.context_length,
        },
        tags={
            schema.SNAPSHOT_DIGEST: snapshot.digest,
            schema.TARGET_DIGEST: data.prepared.target_digest,
            **code.tags("tapescale baselines"),
        },
    )

    def write(folder: Path) -> None:
        predictions.table().to_parquet(folder / schema.WALK_FORWARD_FILE, index=False)
        code.write(folder)

    log.artifacts(write)
    metrics = {"base_rate": float(predictions.labels.mean()), "n": float(len(predictions.labels))}
    for row in rows:
        named = {"loss": row.loss.mean, "loss_low": row.loss.low, "loss_high": row.loss.high, "auc": row.auc}
        metrics.update({f"{row.baseline}/{name}": value for name, value in named.items()})
    log.finish("complete", metrics=metrics)
