"""Console logs of Optuna studies, run one after the other by a runner that wrote into the same log.

Only the runner's `[k/n] Starting: SCRIPT` line says which study the trials below it belong to; Optuna's own
`A new study created` line, where there is one, adds the phase.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime
from pathlib import PurePosixPath

from pipelines.adopt.numbers import UnreadableError, real, whole
from pipelines.adopt.record import UNNAMED_METRIC, LegacyStudy, Outcome, Parsed, Record, Rejection, Value, measured, settings
from research.tracking import schema

FORM = "optuna console log"

_COLOUR = re.compile(r"\x1b\[[0-9;]*[A-Za-z]")
_STARTING = re.compile(r"\[[0-9]+/[0-9]+\] Starting: (\S+)")
_OVER = re.compile(r"\[[0-9]+/[0-9]+\] [A-Z]{3,}")
_CREATED = re.compile(r"A new study created .*with name: (\S+)")
_BEGUN = re.compile(r"Trial ([0-9]+): (?=\w+=)(.*)")
_RESULT = re.compile(r"Trial ([0-9]+) (?:finished|failed with parameters|pruned)")
_FINISHED = re.compile(r"finished with value: (\S+) and parameters: (\{.*\})\. Best is trial [0-9]+ with value: (\S+?)\.?$")
_FAILED = re.compile(r"failed with parameters: (\{.*\}) because of the following error: (.*)$")
_PRUNED = re.compile(r"Trial [0-9]+ pruned\.")
_PAIR = re.compile(r"(\w+)=([0-9]{1,3}(?:,[0-9]{3})+(?![0-9])|[^,\s]+)")
_TIME = re.compile(r"\[[A-Z] ([0-9-]{10} [0-9:]{8},[0-9]{3})\]")


@dataclass(frozen=True, kw_only=True)
class _Begun:
    """Content of a trial's start line."""

    line: int
    time: datetime | None = None
    params: dict[str, Value] = field(default_factory=dict)
    stated_size: int | None = None


@dataclass(frozen=True, kw_only=True)
class _Ended:
    """Result of a trial."""

    line: int
    outcome: Outcome
    time: datetime | None = None
    params: dict[str, Value] = field(default_factory=dict)
    why: str = ""


class _Reader:
    """Line-by-line parser that tracks the current study."""

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.rejections: list[Rejection] = []
        self._study: LegacyStudy | None = None
        self._open: dict[int, _Begun] = {}
        self._results: list[Record] = []
        self._maximised: bool | None = None

    def read(self, line: int, text: str) -> None:
        """Parse one line; raise `UnreadableError` if it is an unreadable trial line."""
        if found := _STARTING.search(text):
            self.close_study()
            self._study = LegacyStudy.named(PurePosixPath(found[1]).stem)
        elif _OVER.search(text):
            self.close_study()
        elif found := _CREATED.search(text):
            named = LegacyStudy.named(found[1])
            self._study = replace(self._study, phase=named.phase) if self._study else named
        elif found := _BEGUN.search(text):
            self._begin(line, int(found[1]), found[2], _time(text))
        elif found := _RESULT.search(text):
            self._end(line, int(found[1]), text)

    def close_study(self) -> None:
        """The study is over: its starts without a finish were cut off, and it is known what its values are."""
        self._results += [self._cut_off(number, begun) for number, begun in self._open.items()]
        # A best value above a trial's own value means that the study looked for the largest: no loss.
        metric = UNNAMED_METRIC if self._maximised else "val_loss"
        unsure = ("metric=val_loss",) if self._maximised is None else ()
        self.records += [
            replace(one, metric=metric, assumed=unsure) if one.outcome == "complete" else one for one in self._results
        ]
        self._study, self._open, self._results, self._maximised = None, {}, [], None

    def _begin(self, line: int, number: int, text: str, time: datetime | None) -> None:
        self._known_study()
        given: dict[str, object] = dict(_PAIR.findall(text))
        stated = given.pop("params", None)
        if batch := given.pop("batch", None):
            given["batch_size"], _, accumulation = str(batch).partition("x")
            given |= {"accumulation": accumulation} if accumulation else {}
        begun = _Begun(line=line, time=time, params=settings(given), stated_size=None if stated is None else whole(stated))
        if number in self._open:
            self._results.append(self._cut_off(number, self._open[number]))
        self._open[number] = begun

    def _end(self, line: int, number: int, text: str) -> None:
        self._known_study()
        begun = self._open.pop(number, _Begun(line=line))
        if found := _FINISHED.search(text):
            value, best = real(found[1]), real(found[3])
            outcome, objective = measured(value)
            if best != value:
                self._maximised = best > value
            why = "" if outcome == "complete" else f"value {found[1]}, which stands for a diverged trial"
            ended = _Ended(line=line, time=_time(text), outcome=outcome, params=_settings_of(found[2]), why=why)
            self._results.append(replace(self._record(number, begun, ended), value=objective))
        elif found := _FAILED.search(text):
            ended = _Ended(line=line, time=_time(text), outcome="failed", params=_settings_of(found[1]), why=found[2])
            self._results.append(self._record(number, begun, ended))
        elif _PRUNED.search(text):
            self._results.append(self._record(number, begun, _Ended(line=line, time=_time(text), outcome="pruned")))
        else:
            raise UnreadableError("a result line that is cut off or garbled")

    def _cut_off(self, number: int, begun: _Begun) -> Record:
        return self._record(number, begun, _Ended(line=begun.line, outcome="interrupted", why="started, never finished"))

    def _record(self, number: int, begun: _Begun, ended: _Ended) -> Record:
        return Record(
            study=self._known_study(),
            place=f"line {ended.line}",
            outcome=ended.outcome,
            number=number,
            # The result line's settings are exact, the start line's are rounded.
            params={**begun.params, **ended.params},
            metrics={"legacy_seconds": (ended.time - begun.time).total_seconds()} if ended.time and begun.time else {},
            stated_size=begun.stated_size,
            notes={
                **({schema.REASON: ended.why} if ended.why else {}),
                **({schema.LEGACY_TIMESTAMP: begun.time.isoformat()} if begun.time else {}),
            },
        )

    def _known_study(self) -> LegacyStudy:
        if self._study is None:
            raise UnreadableError("no `[k/n] Starting` line above it says which study it belongs to")
        return self._study


def parse(text: str) -> Parsed:
    """Return all trials of a log, in the order of their results."""
    reader = _Reader()
    for line, content in _lines(text):
        try:
            reader.read(line, content)
        except UnreadableError as problem:
            reader.rejections.append(Rejection(place=f"line {line}", reason=str(problem)))
    reader.close_study()
    return Parsed(form=FORM, records=reader.records, rejections=reader.rejections)


def recognises(text: str) -> bool:
    """Return whether any line is a trial line of a runner or of Optuna."""
    marks = (_STARTING, _CREATED, _BEGUN, _RESULT)
    return any(mark.search(content) for _, content in _lines(text) for mark in marks)


def _lines(text: str) -> Iterator[tuple[int, str]]:
    for line, content in enumerate(text.split("\n"), start=1):
        yield line, _COLOUR.sub("", content).rstrip()


def _settings_of(text: str) -> dict[str, Value]:
    try:
        found = ast.literal_eval(text)
    except (ValueError, SyntaxError) as problem:
        raise UnreadableError("its parameters cannot be read") from problem
    return settings({str(name): value for name, value in found.items()})


def _time(text: str) -> datetime | None:
    found = _TIME.search(text)
    return datetime.strptime(found[1], "%Y-%m-%d %H:%M:%S,%f") if found else None
