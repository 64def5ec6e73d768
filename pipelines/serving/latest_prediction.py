"""Newest probabilities of a registered model, with the age of the data behind them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime

import pandas as pd
from mlflow.exceptions import MlflowException

from pipelines.data.load_task import ingest
from pipelines.serving.packaging import as_table
from research.data.calendars import calendar_named, sessions_missed
from research.data.data_sets import newest_after
from research.data.snapshots import Snapshot, load_snapshot
from research.errors import InputError
from research.evaluation.metrics import alarm_of
from research.spec import TargetSpec
from research.tracking import query, schema
from research.tracking.registry import SelectedVersion, load, sentence_of
from research.tracking.run_record import numbers
from research.tracking.spec_codec import part_from_params
from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class TestSummary:
    """Result of a version's evaluation on the test days."""

    run_id: str
    """Run id of the evaluation."""
    skill: float
    """Skill against the training prior."""
    rows: int
    alarm: str
    caveat: str
    """Reason why the evaluation was not an independent test, in a few words; empty if it was one."""


@dataclass(frozen=True, kw_only=True)
class ServedModelInfo:
    """A registered version with what its run has logged."""

    version: SelectedVersion
    symbols: tuple[str, ...]
    """Instruments that the model was trained on."""
    references: tuple[str, ...]
    """Instruments that its features compare with."""
    target: TargetSpec
    digest: str
    """Digest of the snapshot that the model was trained on."""
    base_rate: float | None
    """Share of positives among its training labels; None if it was not logged."""
    skill: float | None
    """Skill on the validation days that selected the model; None if not logged, as for a final run, which has none."""
    test: TestSummary | None
    """Summary of its evaluation; None if it was not tested."""
    alarm: str
    """`none`, or the model's defect."""


@dataclass(frozen=True, kw_only=True)
class DataAge:
    """Age of the newest bar of an instrument."""

    last: pd.Timestamp
    """Day of the last bar."""
    missed: int
    """Sessions that have ended since then."""
    calendar: str
    """Exchange calendar of these sessions; empty if it is not known and weekdays are counted."""

    @property
    def text(self) -> str:
        """The last day and the number of sessions since then, in words."""
        return f"{self.last:%Y-%m-%d}, {self.missed:,} {self.calendar or 'weekday'} session{'s' * (self.missed != 1)} ago"


def served_model_info(store: Store, version: SelectedVersion) -> ServedModelInfo:
    """Read what the run of a version, its sweep and its evaluation have logged."""
    record = store.client.get_run(version.run_id)
    run, test = record.data, _test_summary(store, record.info.experiment_id, version.run_id)
    base_rate = run.metrics.get(schema.TRAIN_BASE_RATE)
    if not base_rate and (parent := run.tags.get(schema.PARENT)):
        base_rate = store.client.get_run(parent).data.metrics.get(f"{schema.SWEEP_PREFIX}{schema.TRAIN_BASE_RATE}")
    references = (run.params[name] for name in ("index", "volatility_index"))
    return ServedModelInfo(
        version=version,
        symbols=tuple(run.params["symbol"].split(",")),
        references=tuple(symbol for symbol in references if symbol != "none"),
        target=part_from_params(TargetSpec, numbers(run.params)),
        digest=run.tags[schema.SNAPSHOT_DIGEST],
        base_rate=base_rate,
        skill=run.metrics.get("val_skill"),
        test=test,
        alarm=test.alarm if test else run.tags.get(schema.ALARM, "none"),
    )


def newest_snapshot(store: Store, model: ServedModelInfo, data: str = "") -> Snapshot:
    """Return the snapshot that `data` selects, as for a sweep; if empty, the newest one of the model's training data."""
    return ingest(data, store) if data else load_snapshot(newest_after(model.digest, store.snapshots), store.snapshots)


def data_ages(model: ServedModelInfo, snapshot: Snapshot, now: datetime) -> dict[str, DataAge]:
    """Return the age of each instrument's bars, including references: old reference bars make old features."""
    ages = {}
    for symbol in dict.fromkeys([*model.symbols, *model.references]):
        last = pd.Timestamp(snapshot.of(symbol).index[-1])
        name = snapshot.manifest.instruments.get(symbol, {}).get("calendar", "")
        missed = sessions_missed(last, calendar_named(name) if name else None, now)
        ages[symbol] = DataAge(last=last, missed=missed, calendar=name)
    return ages


def require_fresh(ages: dict[str, DataAge], snapshot: Snapshot, limit: int) -> None:
    """Raise `InputError` if the bars of an instrument end more than `limit` sessions ago."""
    symbol, oldest = max(ages.items(), key=lambda item: item[1].missed)
    if oldest.missed > limit:
        raise InputError(
            f"MAX_AGE={limit}: the bars of {symbol} in snapshot {snapshot.digest} end {oldest.text}; update them with "
            "make data DATA=<name>, give newer DATA, or STALE_OK=1 for predictions at the last available bar."
        )


def newest_probabilities(store: Store, model: ServedModelInfo, snapshot: Snapshot, days: int) -> pd.DataFrame:
    """Return the newest `days` rows per instrument: columns symbol, date, probability and the model's other outputs.

    The model gets the whole history, so that features with a long memory are those of training.
    """
    symbols = dict.fromkeys([*model.symbols, *model.references])
    loaded = load(store, model.version)
    try:
        table = loaded.predict(as_table({symbol: snapshot.of(symbol) for symbol in symbols}), params={"days": days})
    except MlflowException as error:
        # The model's own copy of the code raises its own `InputError`, which is not the class imported here.
        raise InputError(f"MODEL={model.version.name}: {sentence_of(str(error))}") from error
    assert isinstance(table, pd.DataFrame)
    if "symbol" not in table.columns:
        table.insert(0, "symbol", model.symbols[0])
    return table.groupby("symbol", sort=False).tail(days).reset_index(drop=True)


def _test_summary(store: Store, experiment_id: str, run_id: str) -> TestSummary | None:
    """Return the first complete evaluation of a final run; None if there is none, as for a trial."""
    evaluations = query.runs_with_tag(store, experiment_id, schema.FINAL_RUN, run_id, kinds=("evaluation",))
    first = next((run for run in evaluations if run.outcome == "complete"), None)
    if first is None:
        return None
    skill = first.metrics["test_skill"]
    return TestSummary(
        run_id=first.run_id,
        skill=skill,
        rows=int(first.metrics["test_n"]),
        alarm=alarm_of(first.metrics["test_spread"], skill),
        caveat=_caveat(first.tags),
    )


def _caveat(tags: Mapping[str, str]) -> str:
    """Return the evaluation's own warning in short, for readers who see its skill only here."""
    if schema.SECOND_LOOK in tags:
        return "second look, not a test"
    related = tags.get(schema.LOOKS_RELATED, "0") != "0"
    return "no fresh test: the configuration was evaluated on these days before" if related else ""
