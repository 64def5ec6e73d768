"""Results adopted from an earlier study: what was claimed beside what was counted. Never among native results."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table

from research.cli.console import plain_table
from research.tracking import query, schema
from research.tracking.store import Store

LOWEST = ("val_loss",)
HIGHEST = ("val_auc", "test_accuracy")
"""Metrics whose best value is known to be the largest; of any other only the range is shown."""
WARNING = (
    "Adopted results are not comparable with native ones: other data, features, labels and splits, and claims that nobody "
    "checked. Of each only the size is counted here; scaling never uses them."
)

Row = dict[Any, Any]


@dataclass(frozen=True, kw_only=True)
class AdoptedStudy:
    """One metric of one legacy study."""

    experiment: str
    study: str
    claimed_budget: str | None
    claimed_horizon: int | None
    metric: str
    """Name of the objective, `-` where no trial has a value."""
    trials: int
    with_value: int
    """Trials that ended with a value; the others diverged, failed or were cut off."""
    best: float | None
    """None where it is not known whether high or low is good."""
    lowest: float | None
    highest: float | None
    best_name: str | None
    best_size: int | None
    """Counted from the best trial's shape; None where the file does not give it."""
    smallest: int | None
    largest: int | None
    within: int
    """Trials whose counted size lies within 25% of the claimed label."""
    judged: int
    """Trials that have both a label and a counted size."""


def studies(store: Store, experiment: str | None = None) -> list[AdoptedStudy]:
    """All adopted studies by experiment and name, read from MLflow."""
    table = query.runs(store, kinds=("trial",), experiment=experiment, adopted=True)
    # An adoption that was killed leaves at most one run without its outcome; it is adopted anew.
    rows = [row for row in table.to_dict("records") if row.get(schema.OUTCOME) == "adopted"]
    by_study: dict[tuple[str, str], list[Row]] = {}
    for row in rows:
        by_study.setdefault((row["experiment"], row[schema.LEGACY_STUDY]), []).append(row)
    return [one for key in sorted(by_study) for one in _by_metric(*key, by_study[key])]


def _by_metric(experiment: str, study: str, rows: list[Row]) -> list[AdoptedStudy]:
    """Trials without a value belong to every metric of their study."""
    metrics = sorted({row[schema.LEGACY_METRIC] for row in rows if _given(row, schema.LEGACY_METRIC)})
    shared = [row for row in rows if not _given(row, schema.LEGACY_METRIC)]
    if not metrics:
        return [_study(experiment, study, "-", shared)]
    groups = {metric: [row for row in rows if row.get(schema.LEGACY_METRIC) == metric] for metric in metrics}
    return [_study(experiment, study, metric, [*groups[metric], *shared]) for metric in metrics]


def _study(experiment: str, study: str, metric: str, rows: list[Row]) -> AdoptedStudy:
    valued = sorted((row for row in rows if _given(row, metric)), key=lambda row: float(row[metric]))
    best = valued[0] if valued and metric in LOWEST else valued[-1] if valued and metric in HIGHEST else {}
    sizes = [int(row["n_params"]) for row in rows if _given(row, "n_params")]
    claims = [str(row[schema.SIZE_CLAIM]).split()[0] for row in rows]
    budget, horizon = rows[0].get("claimed_budget"), rows[0].get(schema.CLAIMED_HORIZON)
    return AdoptedStudy(
        experiment=experiment,
        study=study,
        claimed_budget=str(budget) if _given(rows[0], "claimed_budget") else None,
        claimed_horizon=int(str(horizon)) if _given(rows[0], schema.CLAIMED_HORIZON) else None,
        metric=metric,
        trials=len(rows),
        with_value=len(valued),
        best=best.get(metric),
        lowest=valued[0][metric] if valued else None,
        highest=valued[-1][metric] if valued else None,
        best_name=best.get("name"),
        best_size=int(best["n_params"]) if _given(best, "n_params") else None,
        smallest=min(sizes, default=None),
        largest=max(sizes, default=None),
        within=claims.count("within"),
        judged=claims.count("within") + claims.count("outside"),
    )


def _given(row: Row, name: str) -> bool:
    """Whether a cell of the table holds something: a name that only other runs have leaves NaN."""
    value = row.get(name)
    return value is not None and value == value


def show(found: list[AdoptedStudy], screen: Console) -> None:
    """Print the table and what it cannot tell."""
    if not found:
        screen.print("adopted from an earlier study: nothing yet; start with `make adopt PATHS=<files>`.\n")
        return
    screen.print(table_of(found))
    screen.print(WARNING, soft_wrap=True, highlight=False)
    screen.print()


def table_of(found: list[AdoptedStudy]) -> Table:
    """One row per study and metric: the label claimed, the sizes counted, the value as the file gives it."""
    columns = ["study", "claimed", "counted", "within 25%", "metric", "value", "best trial", "its size", "values"]
    table = plain_table("adopted from an earlier study: claims, not findings", columns)
    table.columns[0].justify = "left"
    for one in found:
        table.add_row(
            one.study,
            " ".join([one.claimed_budget or "-", *([] if one.claimed_horizon is None else [f"h{one.claimed_horizon}"])]),
            _range(one.smallest, one.largest, ","),
            f"{one.within} of {one.judged}" if one.judged else "-",
            one.metric,
            _range(one.lowest, one.highest, ".4f") if one.best is None else f"{one.best:.4f}",
            one.best_name or "-",
            "-" if one.best_size is None else f"{one.best_size:,}",
            f"{one.with_value} of {one.trials}",
        )
    return table


def _range(low: float | None, high: float | None, form: str) -> str:
    if low is None or high is None:
        return "-"
    return f"{low:{form}}" if low == high else f"{low:{form}} .. {high:{form}}"
