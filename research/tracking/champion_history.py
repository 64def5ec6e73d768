"""Succession of champions: the only place that moves the alias `champion`, with a record for the way back."""

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
    """A champion with the record of its promotion."""

    name: str
    version: str
    run_id: str
    evaluation: str
    """Run id of its evaluation; empty if the alias was set by hand."""
    since: str
    """Day and time of the promotion in UTC; empty if the alias was set by hand."""
    gates: str
    """`passed` or `not passed: …`; empty if no gate was evaluated."""


def make_champion(store: Store, version: ModelVersion, *, final: str, evaluation: str, forced: Sequence[str]) -> str:
    """Make a version champion and return the version that it replaces, empty if there was none.

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
    """Restore the previous champion; return the version left and the version restored."""
    if name not in (models := all_models(store)):
        raise InputError(f"MODEL={name}: no such registered model; there are: {', '.join(sorted(models)) or 'none'}.")
    with aliases_held(store, name):
        line, at = _line(store, name), _now()
        if not line:
            raise InputError(f"MODEL={name}: it has no champion; make promote makes one.")
        existing = {str(version.version) for version in store.client.search_model_versions(f"name='{name}'")}
        left = line[-1]
        earlier = [index for index, number in enumerate(line) if number in existing and number != left]
        if not earlier:
            raise InputError(
                f"MODEL={name}: no other version was champion before version {left}; there is nothing to roll back to."
            )
        restored, line = line[earlier[-1]], line[: earlier[-1] + 1]
        _note(store, name, left, schema.ROLLED_BACK, {"at": at, "to": restored})
        _note(store, name, restored, schema.RESTORED, {"at": at, "instead_of": left})
        # The longer line is correct once the alias has moved; the shorter one is wrong until then.
        _become_champion(store, name, restored)
        store.client.set_registered_model_tag(name, schema.SUCCESSION, json.dumps(line))
    return left, restored


def current_champions(store: Store) -> list[ChampionRecord]:
    """Return every champion, by model name."""
    champions = ((name, holder_of(store, name, schema.CHAMPION)) for name in sorted(all_models(store)))
    return [_record(name, version) for name, version in champions if version]


def _record(name: str, version: ModelVersion) -> ChampionRecord:
    promotion = json.loads(version.tags.get(schema.PROMOTED, "{}"))
    return ChampionRecord(
        name=name,
        version=str(version.version),
        run_id=str(version.run_id),
        evaluation=promotion.get("evaluation", ""),
        # A restored version may have been promoted again since; ISO times sort as text.
        since=max(json.loads(version.tags.get(schema.RESTORED, "{}")).get("at", ""), promotion.get("at", "")),
        gates=gates_of(version),
    )


def _line(store: Store, name: str) -> list[str]:
    """Return the versions that were champion one after another, the present one last; empty without a champion.

    The alias decides: it may have been moved by hand, or not yet moved when a promotion was killed.
    """
    champion = holder_of(store, name, schema.CHAMPION)
    if champion is None:
        return []
    line: list[str] = json.loads(store.client.get_registered_model(name).tags.get(schema.SUCCESSION, "[]"))
    now = str(champion.version)
    last = max((index for index, version in enumerate(line) if version == now), default=None)
    return [*line, now] if last is None else line[: last + 1]


def _become_champion(store: Store, name: str, version: str) -> None:
    store.client.set_registered_model_alias(name, schema.CHAMPION, version)
    challenger = holder_of(store, name, schema.CHALLENGER)
    if challenger and str(challenger.version) == version:
        store.client.delete_registered_model_alias(name, schema.CHALLENGER)


def _note(store: Store, name: str, version: str, tag: str, value: object) -> None:
    store.client.set_model_version_tag(name, version, tag, value if isinstance(value, str) else json.dumps(value))


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
