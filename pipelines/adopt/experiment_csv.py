"""CSV experiment log of the earlier study: searches, trainings and smoke runs."""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import PurePosixPath

from pipelines.adopt.numbers import UnreadableError, real, whole
from pipelines.adopt.record import LegacyStudy, Outcome, Parsed, Record, Rejection, Value, measured, settings
from research.tracking import schema

FORM = "experiment log"

_COLUMNS = {"experiment", "budget", "task", "horizon", "run_type", "status", "val_loss", "hyperparameters"}
_SHAPE = ("d_model", "n_layers", "n_heads", "d_ff")
_SMOKE = re.compile(r"(?:^|[^a-z])(?:smoke|test|debug|dummy|dry[_-]?run)(?:[^a-z]|$)")
_SMOKE_COLUMNS = ("experiment", "phase", "budget", "run_type")
_OUTCOMES: dict[str, Outcome] = {
    "success": "complete",
    "failed": "failed",
    "failure": "failed",
    "error": "failed",
    "interrupted": "interrupted",
    "killed": "interrupted",
    "timeout": "interrupted",
}

Row = dict[str, str]


def recognises(text: str) -> bool:
    """Return whether the first line has the columns of an experiment log."""
    try:
        return set(next(csv.reader(text.lstrip("\ufeff").split("\n", 1)[:1]), [])) >= _COLUMNS
    except csv.Error:
        return False


def parse(text: str) -> Parsed:
    """Parse every row with a result."""
    reader = csv.reader(io.StringIO(text.lstrip("\ufeff"), newline=""))
    header = next(reader)
    records, rejections = [], []
    try:
        for cells in filter(None, reader):
            place = f"line {reader.line_num}"
            try:
                records.append(_record(_row(header, cells), place))
            except UnreadableError as problem:
                rejections.append(Rejection(place=place, reason=str(problem)))
    except csv.Error as problem:
        rejections.append(Rejection(place=f"line {reader.line_num} and what follows", reason=f"no CSV: {problem}"))
    return Parsed(form=FORM, records=records, rejections=rejections)


def _row(header: list[str], cells: list[str]) -> Row:
    if len(cells) != len(header):
        raise UnreadableError(f"{len(cells)} cells, the header has {len(header)}")
    row = {name: cell.strip() for name, cell in zip(header, cells, strict=True)}
    names = [row.get(name, "") for name in _SMOKE_COLUMNS] + [PurePosixPath(row.get("script_path", "")).stem]
    if any(_SMOKE.search(name.lower()) for name in names):
        raise UnreadableError("a smoke run")
    if row["status"].lower() not in _OUTCOMES:
        raise UnreadableError(f"status {row['status'] or 'blank'}: not known how it ended")
    return row


def _record(row: Row, place: str) -> Record:
    outcome, metric, value = _ending(row)
    stated = row.get("param_count", "")
    measures = {"legacy_seconds": "duration_seconds", "test_accuracy": "test_accuracy"}
    texts = {
        schema.LEGACY_TIMESTAMP: row.get("timestamp", ""),
        "legacy_run_type": row["run_type"],
        "legacy_data_md5": row.get("data_md5", ""),
        schema.REASON: row.get("error_message", "") or ("" if value is not None else f"val_loss {row['val_loss'] or 'blank'}"),
    }
    return Record(
        study=_study(row),
        place=place,
        outcome=outcome,
        metric=metric,
        value=value,
        params=_settings(row),
        metrics={name: real(row[column]) for name, column in measures.items() if row.get(column)},
        stated_size=whole(stated) if stated else None,
        notes={name: text for name, text in texts.items() if text},
    )


def _ending(row: Row) -> tuple[Outcome, str | None, float | None]:
    outcome = _OUTCOMES[row["status"].lower()]
    if outcome != "complete":
        return outcome, None, None
    metric = next((name for name in ("val_loss", "test_accuracy") if row.get(name)), None)
    if metric is None:
        raise UnreadableError("a success without val_loss or test_accuracy")
    outcome, value = measured(real(row[metric]))
    return outcome, None if value is None else metric, value


def _study(row: Row) -> LegacyStudy:
    named = LegacyStudy.named(row["experiment"])
    return LegacyStudy(
        phase=row.get("phase") or named.phase,
        budget=row["budget"].upper() or named.budget,
        horizon=whole(row["horizon"]) if row["horizon"] else named.horizon,
        task=row["task"] or named.task,
    )


def _settings(row: Row) -> dict[str, Value]:
    try:
        searched = json.loads(row["hyperparameters"] or "{}")
    except json.JSONDecodeError as problem:
        raise UnreadableError("hyperparameters is no JSON") from problem
    if not isinstance(searched, dict):
        raise UnreadableError("hyperparameters is no JSON object")
    return settings({**searched, **{name: row[name] for name in _SHAPE if row.get(name)}})
