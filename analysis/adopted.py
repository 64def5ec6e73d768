"""Results adopted from an earlier study: claimed and counted sizes. Never mixed with native results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from research.cli.console import plain_table, print_line
from research.tracking import query, schema
from research.tracking.store import Store

LOWEST = ("val_loss",)
HIGHEST = ("val_auc", "test_accuracy")
"""Metrics whose best value is the largest; for any other metric only the range is shown."""
WARNING = (
    "Adopted results are not comparable with native ones: other data, features, labels and splits, and unchecked claims. "
    "Only the size of each is counted here; scaling never uses them."
)

Row = dict[Any, Any]


@dataclass(frozen=True, kw_only=True)
class AdoptedStudy:
    """One metric of one earlier study."""

    experiment: str
    study: str
    claimed_budget: str | None
    claimed_horizon: int | None
    metric: str
    """Name of the objective, `-` if no trial has a value."""
    trials: int
    with_value: int
    """Trials that ended with a value; the others diverged, failed or were cut off."""
    best: float | None
    """Best value; None if it is unknown whether high or low is good."""
    lowest: float | None
    highest: float | None
    best_name: str | None
    best_size: int | None
    """Parameters counted from the best trial's shape; None if the file lacks the shape."""
    smallest: int | None
    largest: int | None
    within: int
    """Trials whose counted size lies within 25% of the claimed label."""
    judged: int
    """Trials that have both a label and a counted size."""


def adopted_studies(store: Store, experiment: str | None = None) -> list[AdoptedStudy]:
    """Return all adopted studies of the store, by experiment and name."""
    table = query.runs(store, kinds=("trial",), experiment=experiment, adopted=True)
    # A killed adoption leaves at most one run without an outcome; the next adoption imports it again.
    rows = [row for row in table.to_dict("records") if row.get(schema.OUTCOME) == "adopted"]
    by_study: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_study.setdefault((row["experiment"], row[schema.LEGACY_STUDY]), []).append(row)
    return [study for key in sorted(by_study) for study in _by_metric(*key, by_study[key])]


def _by_metric(experiment: str, study: str, rows: list[Row]) -> list[AdoptedStudy]:
    """Return one entry per metric; trials without a value belong to every metric of their study."""
    metrics = sorted({row[schema.LEGACY_METRIC] for row in rows if _has(row, schema.LEGACY_METRIC)})
    shared = [row for row in rows if not _has(row, schema.LEGACY_METRIC)]
    if not metrics:
        return [_study(experiment, study, "-", shared)]
    groups = {metric: [row for row in rows if row.get(schema.LEGACY_METRIC) == metric] for metric in metrics}
    return [_study(experiment, study, metric, [*groups[metric], *shared]) for metric in metrics]


def _study(experiment: str, study: str, metric: str, rows: list[Row]) -> AdoptedStudy:
    valued = sorted((row for row in rows if _has(row, metric)), key=lambda row: float(row[metric]))
    best = valued[0] if valued and metric in LOWEST else valued[-1] if valued and metric in HIGHEST else {}
    sizes = [int(row["n_params"]) for row in rows if _has(row, "n_params")]
    claims = [str(row[schema.SIZE_CLAIM]).split()[0] for row in rows]
    budget, horizon = rows[0].get("claimed_budget"), rows[0].get(schema.CLAIMED_HORIZON)
    return AdoptedStudy(
        experiment=experiment,
        study=study,
        claimed_budget=str(budget) if _has(rows[0], "claimed_budget") else None,
        claimed_horizon=int(str(horizon)) if _has(rows[0], schema.CLAIMED_HORIZON) else None,
        metric=metric,
        trials=len(rows),
        with_value=len(valued),
        best=best.get(metric),
        lowest=valued[0][metric] if valued else None,
        highest=valued[-1][metric] if valued else None,
        best_name=best.get("name"),
        best_size=int(best["n_params"]) if _has(best, "n_params") else None,
        smallest=min(sizes, default=None),
        largest=max(sizes, default=None),
        within=claims.count("within"),
        judged=claims.count("within") + claims.count("outside"),
    )


def _has(row: Row, name: str) -> bool:
    """Return whether a cell holds a value: a column that only other runs have is NaN."""
    value = row.get(name)
    return value is not None and value == value


def print_adopted(studies: list[AdoptedStudy], screen: Console) -> None:
    """Print the table and a warning on what it cannot support."""
    if not studies:
        screen.print("adopted from an earlier study: nothing yet; start with `make adopt PATHS=<files>`.\n")
        return
    screen.print(adopted_table(studies))
    print_line(screen, WARNING)
    screen.print()


def adopted_table(studies: list[AdoptedStudy]) -> Table:
    """Return one row per study and metric: claimed label, counted sizes, value of the file."""
    columns = ["study", "claimed", "counted", "within 25%", "metric", "value", "best trial", "its size", "values"]
    table = plain_table("adopted from an earlier study: claims, not findings", columns, left=["study"])
    for study in studies:
        horizon = [] if study.claimed_horizon is None else [f"h{study.claimed_horizon}"]
        table.add_row(
            study.study,
            " ".join([study.claimed_budget or "-", *horizon]),
            _range(study.smallest, study.largest, ","),
            f"{study.within} of {study.judged}" if study.judged else "-",
            study.metric,
            _range(study.lowest, study.highest, ".4f") if study.best is None else f"{study.best:.4f}",
            study.best_name or "-",
            "-" if study.best_size is None else f"{study.best_size:,}",
            f"{study.with_value} of {study.trials}",
        )
    return table


def _range(low: float | None, high: float | None, form: str) -> str:
    if low is None or high is None:
        return "-"
    return f"{low:{form}}" if low == high else f"{low:{form}} .. {high:{form}}"
