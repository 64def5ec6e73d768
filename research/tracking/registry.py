"""The MLflow Model Registry: versions made from a run's `model` artifact, and the alias `challenger`."""

from __future__ import annotations

from dataclasses import dataclass

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from research.tracking import schema
from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A registered version."""

    name: str
    version: str
    is_challenger: bool
    """False when an earlier version of the same study has the lower validation loss and keeps the alias."""


def register(store: Store, *, name: str, run_id: str, val_loss: float, study: str, description: str) -> Registered:
    """Register the run's model and move the alias to it, unless a better one of the same study holds it."""
    tags = {"val_loss": repr(val_loss), schema.STUDY_FINGERPRINT: study}
    version = _new_version(store, name, run_id, tags, description)
    wins = val_loss <= _challengers_loss(store, name, study)
    if wins:
        store.client.set_registered_model_alias(name, schema.CHALLENGER, version)
    return Registered(name=name, version=version, is_challenger=wins)


def register_apart(store: Store, *, name: str, run_id: str, study: str, description: str) -> Registered:
    """Register the run's model as a version that moves no alias: one without a validation loss to compare by."""
    version = _new_version(store, name, run_id, {schema.STUDY_FINGERPRINT: study}, description)
    return Registered(name=name, version=version, is_challenger=False)


def _new_version(store: Store, name: str, run_id: str, tags: dict[str, str], description: str) -> str:
    client = store.client
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as problem:
        if problem.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{schema.MODEL_FOLDER}"
    return str(client.create_model_version(name, source=source, run_id=run_id, tags=tags, description=description).version)


def already_challenger(store: Store, name: str, run_id: str) -> Registered | None:
    """The present challenger, if it was made from this run; a resumed sweep then has nothing to register."""
    held = _challenger(store, name)
    if held is None or held.run_id != run_id:
        return None
    return Registered(name=name, version=str(held.version), is_challenger=True)


def _challenger(store: Store, name: str) -> ModelVersion | None:
    try:
        return store.client.get_model_version_by_alias(name, schema.CHALLENGER)
    except MlflowException:
        # No such model or no such alias: MLflow answers both with an error.
        return None


def _challengers_loss(store: Store, name: str, study: str) -> float:
    """Validation loss of the present challenger; infinite if there is none, it has none or it answers another study."""
    held = _challenger(store, name)
    if held is None or held.tags.get(schema.STUDY_FINGERPRINT) != study:
        return float("inf")
    return float(held.tags.get("val_loss", "inf"))
