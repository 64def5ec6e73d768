"""Common form of the earlier study's results, independent of the file form."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from pipelines.adopt.numbers import UnreadableError, number_or_text, real, whole
from research.fingerprint import fingerprint

Value = str | int | float | bool
Outcome = Literal["complete", "diverged", "pruned", "failed", "interrupted"]

SENTINEL = 100.0
"""Value of diverged trials in the earlier study; every real loss is smaller."""
MOST_SETTINGS = 90
"""Limit of settings per trial; MLflow accepts 100 parameters per call."""
UNNAMED_METRIC = "legacy_value"
"""Metric name of a value without a name in the file."""
WHOLE = (
    "d_model",
    "n_layers",
    "n_heads",
    "d_ff",
    "context_length",
    "patch_length",
    "patch_stride",
    "n_features",
    "batch_size",
    "epochs",
    "warmup_steps",
)
REAL = ("learning_rate", "weight_decay", "dropout")
RENAMED = {"lr": "learning_rate"}

_BUDGET = re.compile(r"[0-9]+(?:\.[0-9]+)?[KMB]", re.IGNORECASE)
_HORIZON = re.compile(r"h([0-9]{1,4})", re.IGNORECASE)
_PHASE = re.compile(r"phase\w*", re.IGNORECASE)
_PROGRAMS = ("hpo", "train")
"""First words of script names that name an action, not a study."""


@dataclass(frozen=True, kw_only=True)
class LegacyStudy:
    """A legacy study as its file describes it. Budget and horizon are claims."""

    phase: str | None = None
    budget: str | None = None
    horizon: int | None = None
    task: str | None = None

    @classmethod
    def named(cls, name: str) -> LegacyStudy:
        """Read a name like `phase6a_2M_h1_threshold_1pct`; missing parts are None."""
        phase = budget = horizon = None
        task = []
        for word in filter(None, re.split(r"[_\s]+", name)):
            if _BUDGET.fullmatch(word):
                budget = word.upper()
            elif found := _HORIZON.fullmatch(word):
                horizon = int(found[1])
            elif _PHASE.fullmatch(word):
                phase = word
            elif word.lower() not in _PROGRAMS:
                task.append(word)
        return cls(phase=phase, budget=budget, horizon=horizon, task="_".join(task) or None)

    @property
    def label(self) -> str:
        """Return the name of the study, for example `phase6a_2M_h1_threshold_1pct`."""
        horizon = None if self.horizon is None else f"h{self.horizon}"
        return "_".join(word for word in (self.phase, self.budget, horizon, self.task) if word) or "unnamed"


@dataclass(frozen=True, kw_only=True)
class Record:
    """One legacy trial."""

    study: LegacyStudy
    place: str
    """Place in the file, for example `line 3`."""
    outcome: Outcome
    number: int | None = None
    """Number of the trial in its study, if the file gives one."""
    metric: str | None = None
    """Metric of `value`; None if there is no value."""
    value: float | None = None
    """The objective of a complete trial."""
    params: dict[str, Value] = field(default_factory=dict)
    """Shape and settings; names that this platform does not use begin with `legacy_`."""
    metrics: dict[str, float] = field(default_factory=dict)
    """Further numbers that the file gives."""
    stated_size: int | None = None
    """Parameter count that the file claims."""
    notes: dict[str, str] = field(default_factory=dict)
    """Further texts, by tag name."""
    assumed: tuple[str, ...] = ()
    """Assumptions about facts missing in the file."""


@dataclass(frozen=True, kw_only=True)
class Rejection:
    """A rejected part of a file."""

    place: str
    reason: str


@dataclass(frozen=True, kw_only=True)
class Parsed:
    """Content of one file."""

    form: str
    """Kind of the file in words."""
    records: list[Record]
    rejections: list[Rejection]


def settings(given: Mapping[str, object]) -> dict[str, Value]:
    """Return the settings under this platform's names and types, without blank ones."""
    found: dict[str, Value] = {}
    for key, value in given.items():
        name = RENAMED.get(key, key)
        if value is None or value == "" or name == "d_ff_ratio":
            continue
        if name in WHOLE:
            found[name] = whole(value)
        elif name in REAL:
            found[name] = _finite(value)
        else:
            found[f"legacy_{clean_name(name)}"] = _plain(value)
    ratio = given.get("d_ff_ratio")
    if ratio is not None and "d_model" in found:
        found.setdefault("d_ff", whole(real(ratio) * real(found["d_model"])))
    if len(found) > MOST_SETTINGS:
        raise UnreadableError(f"{len(found)} settings; more than {MOST_SETTINGS} are no trial's")
    return found


def clean_name(name: str) -> str:
    """Return the name with only characters that MLflow accepts, at most 80."""
    return re.sub(r"[^A-Za-z0-9_.-]", "_", name)[:80]


def measured(value: float) -> tuple[Outcome, float | None]:
    """Return outcome and objective of a finished trial; the sentinel and non-finite values mean divergence."""
    return ("complete", value) if math.isfinite(value) and value < SENTINEL else ("diverged", None)


def fingerprints(records: list[Record]) -> list[str]:
    """Return the identity of each record of one file; it does not depend on the file.

    The earlier search repeated trials to the last digit. If a file numbers its trials, each repeat
    has a separate identity. Without numbers, an equal record is the same trial recorded twice.
    """
    repeats: dict[str, list[int | None]] = {}
    found = []
    for record in records:
        content = _identity(record)
        numbers = repeats.setdefault(fingerprint(content), [])
        if record.number not in numbers:
            numbers.append(record.number)
        found.append(fingerprint({**content, "repeat": numbers.index(record.number)}))
    return found


def _identity(record: Record) -> dict[str, object]:
    """Return the facts common to all files of a trial: study, shape, learning rate and the exact value.

    A trial without a value is identified by its number, or else by all its settings.
    """
    study = {"task": record.study.task, "budget": record.study.budget, "horizon": record.study.horizon}
    shared = {name: record.params.get(name) for name in ("d_model", "n_layers", "learning_rate")}
    if record.value is not None:
        return {**study, **shared, "value": record.value}
    facts = {name: repr(value) for name, value in (*record.params.items(), *record.notes.items())}
    return {**study, **shared, "outcome": record.outcome, "own": facts if record.number is None else record.number}


def _finite(value: object) -> float:
    number = real(value)
    if not math.isfinite(number):
        raise UnreadableError(f"a setting of {number}")
    return number


def _plain(value: object) -> Value:
    if isinstance(value, str):
        return number_or_text(value)
    return value if isinstance(value, (bool, int, float)) else json.dumps(value, sort_keys=True)
