"""What a registered model says about the newest days of a snapshot, and how old those days are."""

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
    """What the look at the test days said of a version."""

    run_id: str
    """Of the evaluation."""
    skill: float
    """Against the training prior."""
    rows: int
    alarm: str
    known: str
    """Why it was no fresh test, in a few words; empty where it was one."""


@dataclass(frozen=True, kw_only=True)
class ServedModelInfo:
    """A registered version, with what its run says of it."""

    version: SelectedVersion
    symbols: tuple[str, ...]
    """Instruments that it was trained on."""
    references: tuple[str, ...]
    """Instruments that its features compare with."""
    target: TargetSpec
    digest: str
    """Snapshot that it was trained on."""
    base_rate: float | None
    """Share of yes among its training labels; None where it was not logged."""
    skill: float | None
    """On the validation days it was chosen on; None where it was not logged, as for a last training, which has none."""
    test: TestSummary | None
    """Of a tested version."""
    alarm: str
    """`none`, or what is wrong with the model."""


@dataclass(frozen=True, kw_only=True)
class DataAge:
    """How far the bars of one instrument reach."""

    last: pd.Timestamp
    """Day of the last bar."""
    missed: int
    """Sessions that are over since then."""
    calendar: str
    """Exchange calendar they are counted by; empty where it is not known and weekdays are counted."""

    @property
    def told(self) -> str:
        """The last day and the sessions since then, in words."""
        return f"{self.last:%Y-%m-%d}, {self.missed:,} {self.calendar or 'weekday'} session{'s' * (self.missed != 1)} ago"


def served(store: Store, version: SelectedVersion) -> ServedModelInfo:
    """Read what the version's run says, its sweep and its evaluation."""
    found = store.client.get_run(version.run_id)
    run, test = found.data, _test(store, found.info.experiment_id, version.run_id)
    params = numbers(run.params)
    target = part_from_params(TargetSpec, params)
    references = (run.params[name] for name in ("index", "volatility_index"))
    return ServedModelInfo(
        version=version,
        symbols=tuple(run.params["symbol"].split(",")),
        references=tuple(one for one in references if one != "none"),
        target=target,
        digest=run.tags[schema.SNAPSHOT_DIGEST],
        base_rate=run.metrics.get(schema.TRAIN_BASE_RATE) or _base_rate(store, run.tags.get(schema.PARENT)),
        skill=run.metrics.get("val_skill"),
        test=test,
        alarm=test.alarm if test else run.tags.get(schema.ALARM, "none"),
    )


def newest_snapshot(store: Store, model: ServedModelInfo, data: str = "") -> Snapshot:
    """What `data` selects, as for a sweep; the newest snapshot of the data that the model was trained on if empty."""
    return ingest(data, store) if data else load_snapshot(newest_after(model.digest, store.snapshots), store.snapshots)


def ages(model: ServedModelInfo, snapshot: Snapshot, now: datetime) -> dict[str, DataAge]:
    """How far each instrument's bars reach, those of the references too: old ones make old features."""
    return {symbol: _age(snapshot, symbol, now) for symbol in dict.fromkeys([*model.symbols, *model.references])}


def require_fresh(found: dict[str, DataAge], snapshot: Snapshot, most: int) -> None:
    """Refuse bars that end more than `most` sessions ago."""
    symbol, oldest = max(found.items(), key=lambda item: item[1].missed)
    if oldest.missed > most:
        raise InputError(
            f"MAX_AGE={most}: the bars of {symbol} in snapshot {snapshot.digest} end {oldest.told}; bring them up to date "
            "(make data DATA=<name>), give newer DATA, or STALE_OK=1 to see what the model said then."
        )


def probabilities(store: Store, model: ServedModelInfo, snapshot: Snapshot, days: int) -> pd.DataFrame:
    """The newest `days` answers per instrument: columns symbol, date and what the model tells, probability among it.

    The model gets the whole history: features that forget slowly are then those of training.
    """
    names = dict.fromkeys([*model.symbols, *model.references])
    loaded = load(store, model.version)
    try:
        said = loaded.predict(as_table({name: snapshot.of(name) for name in names}), params={"days": days})
    except MlflowException as error:
        # A model refuses bars with an error of its own code, which is not the class of the same name here.
        raise InputError(f"MODEL={model.version.name}: {sentence_of(str(error))}") from error
    assert isinstance(said, pd.DataFrame)
    if "symbol" not in said.columns:
        said.insert(0, "symbol", model.symbols[0])
    return said.groupby("symbol", sort=False).tail(days).reset_index(drop=True)


def _age(snapshot: Snapshot, symbol: str, now: datetime) -> DataAge:
    last = pd.Timestamp(snapshot.of(symbol).index[-1])
    name = snapshot.manifest.instruments.get(symbol, {}).get("calendar", "")
    calendar = calendar_named(name) if name else None
    return DataAge(last=last, missed=sessions_missed(last, calendar, now), calendar=name)


def _base_rate(store: Store, parent: str | None) -> float | None:
    if parent is None:
        return None
    rate: float | None = store.client.get_run(parent).data.metrics.get(f"{schema.SWEEP_PREFIX}{schema.TRAIN_BASE_RATE}")
    return rate


def _test(store: Store, experiment_id: str, run_id: str) -> TestSummary | None:
    """The first complete evaluation of a final run; a trial has none."""
    looks = query.runs_with_tag(store, experiment_id, schema.FINAL_RUN, run_id, kinds=("evaluation",))
    first = next((one for one in looks if one.outcome == "complete"), None)
    if first is None:
        return None
    spread, skill = first.metrics["test_spread"], first.metrics["test_skill"]
    rows, alarm = int(first.metrics["test_n"]), alarm_of(spread, skill)
    return TestSummary(run_id=first.run_id, skill=skill, rows=rows, alarm=alarm, known=_known(first.tags))


def _known(tags: Mapping[str, str]) -> str:
    """As the evaluation itself warned: whoever reads the number here has not seen that."""
    if schema.SECOND_LOOK in tags:
        return "second look, no test"
    related = tags.get(schema.LOOKS_RELATED, "0") != "0"
    return "no fresh test: the configuration had seen these days" if related else ""
