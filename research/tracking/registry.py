"""The MLflow Model Registry: versions made from a run's `model` artifact, their aliases, and the one that is asked."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from research.spec import InputError
from research.tracking import schema
from research.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel


@dataclass(frozen=True, kw_only=True)
class Registered:
    """A registered version."""

    name: str
    version: str
    is_challenger: bool
    """False when an earlier version of the same study has the lower validation loss and keeps the alias."""


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The version of a registered model that is asked."""

    name: str
    version: str
    alias: str
    """`champion`, or `challenger` where there is no champion."""
    run_id: str
    """The run whose model it is."""

    @property
    def title(self) -> str:
        """Name, version and standing in words."""
        standing = self.alias if self.alias == schema.CHAMPION else f"{self.alias}, there is no {schema.CHAMPION}"
        return f"{self.name} version {self.version} ({standing})"


def chosen(store: Store, name: str = "") -> list[Chosen]:
    """The version to ask of the registered model of that name, or of every one; `InputError` lists what there is."""
    models = sorted(_all_models(store))
    if not models:
        raise InputError("MODEL=: no model is registered yet; `make sweep` registers its best trial.")
    if name and name not in models:
        raise InputError(f"MODEL={name}: no such registered model; there are: {', '.join(models)}.")
    found = [one for model in ([name] if name else models) if (one := _chosen(store, model))]
    if not found:
        aliases = " or ".join(schema.ALIASES)
        raise InputError(f"MODEL={name}: no version has the alias {aliases}; `make sweep` gives one to its best trial.")
    return found


def load(store: Store, version: Chosen) -> PyFuncModel:
    """The model, from the run's artifact; bars in, probabilities out."""
    import mlflow.pyfunc

    model: PyFuncModel = mlflow.pyfunc.load_model(str(store.local_artifact(version.run_id, schema.MODEL_FOLDER)))
    return model


def sentence_of(message: str) -> str:
    """What is wrong, from an error of MLflow's that repeats the data, the schema or advice of its own around it."""
    told = re.split(r"^Failed to (?:predict|enforce).*Error: ", message, maxsplit=1, flags=re.DOTALL)[-1]
    return told.split("\n", 1)[0].split(" IMPORTANT: ", 1)[0].strip()


def _all_models(store: Store) -> list[str]:
    names: list[str] = []
    token: str | None = None
    while True:
        page = store.client.search_registered_models(page_token=token)
        names += [model.name for model in page]
        token = page.token
        if not token:
            return names


def _chosen(store: Store, name: str) -> Chosen | None:
    for alias in schema.ALIASES:
        if held := _holder(store, name, alias):
            return Chosen(name=name, version=str(held.version), alias=alias, run_id=str(held.run_id))
    return None


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
    held = _holder(store, name, schema.CHALLENGER)
    if held is None or held.run_id != run_id:
        return None
    return Registered(name=name, version=str(held.version), is_challenger=True)


def _holder(store: Store, name: str, alias: str) -> ModelVersion | None:
    try:
        return store.client.get_model_version_by_alias(name, alias)
    except MlflowException:
        # No such model or no such alias: MLflow answers both with an error.
        return None


def _challengers_loss(store: Store, name: str, study: str) -> float:
    """Validation loss of the present challenger; infinite if there is none, it has none or it answers another study."""
    held = _holder(store, name, schema.CHALLENGER)
    if held is None or held.tags.get(schema.STUDY_FINGERPRINT) != study:
        return float("inf")
    return float(held.tags.get("val_loss", "inf"))
