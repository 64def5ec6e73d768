"""Who is champion, after whom: the one place that moves the alias `champion`, and keeps the way back."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from mlflow.entities.model_registry import ModelVersion

from research.errors import InputError
from research.tracking import schema
from research.tracking.registry import aliases_held, all_models, gates_of, holder_of
from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class ChampionRecord:
    """A champion, with what its version says of how it came into use."""

    name: str
    version: str
    run_id: str
    evaluation: str
    """Run id of its evaluation; empty where the alias was set by hand."""
    since: str
    """Day and time in UTC; empty where the alias was set by hand."""
    gates: str
    """`passed`, or `not passed: …`; empty where they were not asked, as where the alias was set by hand."""


def make_champion(store: Store, version: ModelVersion, *, final: str, evaluation: str, forced: Sequence[str]) -> str:
    """Make the version champion, which it may be already; returns the version that it replaces, empty if there was none.

    The alias moves after all records: a kill before it leaves the old champion, and `_line` reads the succession by the alias.
    """
    name, number = version.name, str(version.version)
    with aliases_held(store, name):
        line, at = _line(store, name), _now()
        if line and line[-1] == number:
            # Another process was first.
            return line[-2] if len(line) > 1 else ""
        previous = line[-1] if line else ""
        by = {"at": at, "final": final, "evaluation": evaluation}
        _note(store, name, number, schema.PROMOTED, {**by, "replaces": previous, "forced": list(forced)})
        _note(store, name, number, schema.FORCED, ", ".join(forced) or "no")
        if previous:
            _note(store, name, previous, schema.REPLACED, {**by, "by": number})
        store.client.set_registered_model_tag(name, schema.SUCCESSION, json.dumps([*line, number]))
        _become_champion(store, name, number)
    return previous


def roll_back(store: Store, name: str) -> tuple[str, str]:
    """Make the champion before the present one champion again; returns the version left and the one restored."""
    if name not in (models := all_models(store)):
        raise InputError(f"MODEL={name}: no such registered model; there are: {', '.join(sorted(models)) or 'none'}.")
    with aliases_held(store, name):
        line, at = _line(store, name), _now()
        if not line:
            raise InputError(f"MODEL={name}: it has no champion, so that there is nothing to roll back; see make promote.")
        there = {str(one.version) for one in store.client.search_model_versions(f"name='{name}'")}
        left = line[-1]
        earlier = [place for place, one in enumerate(line) if one in there and one != left]
        if not earlier:
            raise InputError(f"MODEL={name}: before version {left} no other was champion; there is nothing to roll back to.")
        restored, line = line[earlier[-1]], line[: earlier[-1] + 1]
        _note(store, name, left, schema.ROLLED_BACK, {"at": at, "to": restored})
        _note(store, name, restored, schema.RESTORED, {"at": at, "instead_of": left})
        # The longer line says the same with the alias moved; the shorter one, with the alias not yet moved, may not.
        _become_champion(store, name, restored)
        store.client.set_registered_model_tag(name, schema.SUCCESSION, json.dumps(line))
    return left, restored


def current_champions(store: Store) -> list[ChampionRecord]:
    """Every champion, by model name."""
    held = ((name, holder_of(store, name, schema.CHAMPION)) for name in sorted(all_models(store)))
    return [_in_use(name, version) for name, version in held if version]


def _in_use(name: str, version: ModelVersion) -> ChampionRecord:
    told = json.loads(version.tags.get(schema.PROMOTED, "{}"))
    return ChampionRecord(
        name=name,
        version=str(version.version),
        run_id=str(version.run_id),
        evaluation=told.get("evaluation", ""),
        # One that was gone back to may have been promoted again since; times of one form are in the order of their text.
        since=max(json.loads(version.tags.get(schema.RESTORED, "{}")).get("at", ""), told.get("at", "")),
        gates=gates_of(version),
    )


def _line(store: Store, name: str) -> list[str]:
    """Versions that were champion one after another, the present one last; empty if there is none.

    The alias is what counts: it may have been moved by hand, or not yet when a promotion was killed.
    """
    champion = holder_of(store, name, schema.CHAMPION)
    if champion is None:
        return []
    line: list[str] = json.loads(store.client.get_registered_model(name).tags.get(schema.SUCCESSION, "[]"))
    now = str(champion.version)
    last = max((place for place, version in enumerate(line) if version == now), default=None)
    return [*line, now] if last is None else line[: last + 1]


def _become_champion(store: Store, name: str, version: str) -> None:
    store.client.set_registered_model_alias(name, schema.CHAMPION, version)
    challenger = holder_of(store, name, schema.CHALLENGER)
    if challenger and str(challenger.version) == version:
        store.client.delete_registered_model_alias(name, schema.CHALLENGER)


def _note(store: Store, name: str, version: str, tag: str, told: object) -> None:
    store.client.set_model_version_tag(name, version, tag, told if isinstance(told, str) else json.dumps(told))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
