"""A study's trials as a bare JSON list, and the companion file that repeats the best one.

The list says nothing of its study; its file name does, as in `phase6c_2M_h1_all_trials.json`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TypeGuard

from pipelines.adopt.numbers import UnreadableError, real, whole
from pipelines.adopt.record import (
    UNNAMED_METRIC,
    LegacyStudy,
    Outcome,
    Parsed,
    Record,
    Rejection,
    clean_name,
    measured,
    settings,
)
from research.tracking import schema

LIST_FORM = "list of trials"
BEST_FORM = "best trial of a study"

_LIST_FIELDS = {"number", "value", "state"}
_BEST_FIELDS = {"best_trial", "best_value", "best_params"}
_OUTCOMES: dict[str, Outcome] = {
    "COMPLETE": "complete",
    "PRUNED": "pruned",
    "FAIL": "failed",
    "RUNNING": "interrupted",
}
_FORCED = "forced_"
"""Prefix in user_attrs of manually set parameters; such trials have empty params."""
_FORCED_MARK = "forced_extreme"


def is_list(content: object) -> TypeGuard[list[object]]:
    """Return whether decoded JSON is a list of trials."""
    return isinstance(content, list) and any(isinstance(one, dict) and one.keys() >= _LIST_FIELDS for one in content)


def is_best(content: object) -> TypeGuard[dict[str, object]]:
    """Return whether decoded JSON is a study's best trial."""
    return isinstance(content, dict) and content.keys() >= _BEST_FIELDS


def parse_list(content: list[object], stem: str) -> Parsed:
    """Parse every trial of the list."""
    study = LegacyStudy.named(stem.removesuffix("_all_trials"))
    records, rejections = [], []
    for position, one in enumerate(content):
        place = f"entry {position}"
        try:
            if not isinstance(one, dict) or not one.keys() >= _LIST_FIELDS:
                raise UnreadableError("an entry without number, value and state")
            place = f"trial {one['number']}"
            records.append(_record(one, study, place))
        except UnreadableError as problem:
            rejections.append(Rejection(place=place, reason=str(problem)))
    return Parsed(form=LIST_FORM, records=records, rejections=rejections)


def parse_best(content: Mapping[str, object], stem: str) -> Parsed:
    """Parse the repeated trial; the file states budget and horizon."""
    named = LegacyStudy.named(stem.removesuffix("_best_params"))
    budget, horizon = content.get("budget"), content.get("horizon")
    trial = {
        "number": content["best_trial"],
        "value": content["best_value"],
        "state": "COMPLETE",
        "params": content["best_params"],
        "user_attrs": content.get("best_user_attrs"),
    }
    try:
        study = replace(
            named,
            budget=str(budget).upper() if budget else named.budget,
            horizon=named.horizon if horizon is None else whole(horizon),
        )
        record = _record(trial, study, f"trial {content['best_trial']}")
    except UnreadableError as problem:
        return Parsed(form=BEST_FORM, records=[], rejections=[Rejection(place="best trial", reason=str(problem))])
    return Parsed(form=BEST_FORM, records=[record], rejections=[])


def _record(trial: Mapping[str, object], study: LegacyStudy, place: str) -> Record:
    params, attributes = _mapping(trial, "params"), _mapping(trial, "user_attrs")
    forced = {name.removeprefix(_FORCED): value for name, value in attributes.items() if _is_forced(name)}
    scores = {clean_name(name): real(value) for name, value in attributes.items() if _is_score(name, value)}
    seconds = attributes.get("duration_sec")
    rest = {
        name: value
        for name, value in attributes.items()
        if not (_is_forced(name) or _is_score(name, value) or name == "duration_sec")
    }
    outcome, value = _ending(trial)
    return Record(
        study=study,
        place=place,
        outcome=outcome,
        number=whole(trial["number"]),
        metric=None if value is None else next((name for name, one in scores.items() if one == value), UNNAMED_METRIC),
        value=value,
        params=settings({**rest, **forced, **params}),
        metrics={**scores, **({} if seconds is None else {"legacy_seconds": real(seconds)})} if value is not None else {},
        notes={} if outcome == "complete" else {schema.REASON: f"state {trial['state']}, value {trial['value']}"},
    )


def _ending(trial: Mapping[str, object]) -> tuple[Outcome, float | None]:
    state = str(trial["state"]).rpartition(".")[2]
    if state not in _OUTCOMES:
        raise UnreadableError(f"state {state}: the trial never ran")
    if state != "COMPLETE":
        return _OUTCOMES[state], None
    if trial["value"] is None:
        raise UnreadableError("complete, but without a value")
    return measured(real(trial["value"]))


def _is_score(name: str, value: object) -> bool:
    return name.startswith("val_") and isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_forced(name: str) -> bool:
    return name.startswith(_FORCED) and name != _FORCED_MARK


def _mapping(trial: Mapping[str, object], name: str) -> dict[str, object]:
    found = trial.get(name) or {}
    if not isinstance(found, dict):
        raise UnreadableError(f"{name} is no object")
    return found
