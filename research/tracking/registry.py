"""The MLflow Model Registry: versions of a run's `model` artifact, their aliases, and the version in use."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING

from filelock import FileLock
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from research.errors import InputError
from research.tracking import schema
from research.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.pyfunc import PyFuncModel


@dataclass(frozen=True, kw_only=True)
class RegisteredVersion:
    """A version that was registered."""

    name: str
    version: str
    kept: str = ""
    """Reason why it did not become challenger; empty if it did."""

    @property
    def is_challenger(self) -> bool:
        """Whether the version became challenger."""
        return not self.kept


@dataclass(frozen=True, kw_only=True)
class SelectedVersion:
    """The version of a registered model that answers."""

    name: str
    version: str
    alias: str
    """`champion`, or `challenger` if there is no champion."""
    run_id: str
    """Run of the model."""
    gates: str = ""
    """`passed`, or `not passed: …` with the failed gates; empty if none was evaluated."""

    @property
    def title(self) -> str:
        """Name, version and alias in words."""
        standing = self.alias if self.alias == schema.CHAMPION else f"{self.alias}, there is no {schema.CHAMPION}"
        return f"{self.name} version {self.version} ({standing})"


def chosen(store: Store, name: str = "") -> list[SelectedVersion]:
    """Return the version that answers, of the named model or of every model; `InputError` lists the models."""
    models = sorted(all_models(store))
    if not models:
        raise InputError("MODEL=: no model is registered yet; `make sweep` registers its best trial.")
    if name and name not in models:
        raise InputError(f"MODEL={name}: no such registered model; give one of {', '.join(models)}.")
    selected = [version for model in ([name] if name else models) if (version := _chosen(store, model))]
    if not selected:
        aliases = " or ".join(schema.ALIASES)
        raise InputError(f"MODEL={name}: no version has the alias {aliases}; `make promote` or `make sweep` gives it one.")
    return selected


def load(store: Store, version: SelectedVersion) -> PyFuncModel:
    """Return the model of a version, from the artifact of its run: bars in, probabilities out.

    Raises `InputError` for a version without code of its own: it would answer with the code that is installed now.
    """
    import mlflow.pyfunc

    require_own_code(store, name=version.name, version=version.version, run_id=version.run_id)
    model: PyFuncModel = mlflow.pyfunc.load_model(str(store.local_artifact(version.run_id, schema.MODEL_FOLDER)))
    return model


def require_own_code(store: Store, *, name: str, version: str, run_id: str) -> None:
    """Raise `InputError` for a version without code of its own, with the command that registers its configuration again."""
    if has_own_code(store, run_id):
        return
    trial = store.client.get_run(run_id).data.tags.get(schema.TRAINED_FROM, run_id)
    raise InputError(
        f"MODEL={name}: version {version} carries no code of its own, so its answers would change with the installed code; "
        f"`make train RUN={trial[:12]}` trains and registers it again."
    )


def has_own_code(store: Store, run_id: str) -> bool:
    """Return whether the model of a run carries the code that it answers with."""
    folder = store.local_artifact(run_id, schema.MODEL_FOLDER) / "code"
    return any(folder.glob(f"{schema.OWN_CODE}*"))


def sentence_of(message: str) -> str:
    """Return the reason in an error of MLflow, which repeats data, schema or advice around it."""
    reason = re.split(r"^Failed to (?:predict|enforce).*Error: ", message, maxsplit=1, flags=re.DOTALL)[-1]
    return reason.split("\n", 1)[0].split(" IMPORTANT: ", 1)[0].strip()


def all_models(store: Store) -> list[str]:
    """Return the names of the registered models."""
    names: list[str] = []
    token: str | None = None
    while True:
        page = store.client.search_registered_models(page_token=token)
        names += [model.name for model in page]
        token = page.token
        if not token:
            return names


def _chosen(store: Store, name: str) -> SelectedVersion | None:
    for alias in schema.ALIASES:
        if version := holder_of(store, name, alias):
            number, run_id = str(version.version), str(version.run_id)
            return SelectedVersion(name=name, version=number, alias=alias, run_id=run_id, gates=gates_of(version))
    return None


def gates_of(version: ModelVersion) -> str:
    """Return `passed` or `not passed: …` with the failed gates; empty if `make promote` has not evaluated the version."""
    if schema.GATES not in version.tags:
        return ""
    failed = [gate["name"] for gate in json.loads(version.tags[schema.GATES])["gates"] if not gate["passed"]]
    return f"not passed: {', '.join(failed)}" if failed else "passed"


def register(store: Store, *, name: str, run_id: str, val_loss: float, study: str, description: str) -> RegisteredVersion:
    """Register a sweep's best trial, once, and make it challenger unless a better version exists (`schema.CHALLENGER`)."""
    existing = version_of(store, run_id, name)
    tags = {schema.VAL_LOSS: repr(val_loss), schema.STUDY_FINGERPRINT: study}
    version = str(existing.version) if existing else _new_version(store, name, run_id, tags, description)
    with aliases_held(store, name):
        kept = _reason_to_keep(store, name, version, val_loss, study)
        if not kept:
            store.client.set_registered_model_alias(name, schema.CHALLENGER, version)
    return RegisteredVersion(name=name, version=version, kept=kept)


def register_apart(store: Store, *, name: str, run_id: str, val_loss: float, study: str, description: str) -> RegisteredVersion:
    """Register a final run's model, once, without an alias: it is not tested yet. `val_loss` is that of the chosen trial."""
    existing = version_of(store, run_id, name)
    tags = {schema.VAL_LOSS: repr(val_loss), schema.STUDY_FINGERPRINT: study}
    version = str(existing.version) if existing else _new_version(store, name, run_id, tags, description)
    return RegisteredVersion(name=name, version=version, kept="it is not tested yet")


def is_tested(version: ModelVersion) -> bool:
    """Return whether the version has an evaluation."""
    return schema.EVALUATION_RUN in version.tags


def note_tested(store: Store, run_id: str, evaluation: str, *, challenges: bool = True) -> None:
    """Tag a run's version as tested and, if it `challenges`, make it challenger.

    Only the first evaluation counts: a second one is no test.
    """
    version = version_of(store, run_id)
    if version is None or is_tested(version):
        return
    with aliases_held(store, version.name):
        champion = holder_of(store, version.name, schema.CHAMPION)
        if challenges and (champion is None or str(champion.version) != str(version.version)):
            store.client.set_registered_model_alias(version.name, schema.CHALLENGER, version.version)
        # Last: if it is missing after a kill, all of this is repeated.
        store.client.set_model_version_tag(version.name, version.version, schema.EVALUATION_RUN, evaluation)


def aliases_held(store: Store, name: str) -> FileLock:
    """Return a lock on the model's aliases for the processes of this machine, for reading and moving them in one step."""
    return store.exclusive_lock(f"champion-{name}")


def version_of(store: Store, run_id: str, name: str = "") -> ModelVersion | None:
    """Return the newest version of a run, of one model if named; None without any."""
    versions = store.client.search_model_versions(f"run_id='{run_id}'")
    return max((v for v in versions if name in ("", v.name)), key=lambda v: int(v.version), default=None)


def named_version(store: Store, name: str, version: str = "") -> ModelVersion:
    """Return a version of a registered model, its challenger if none is named; `InputError` lists the versions."""
    versions = {str(version.version): version for version in store.client.search_model_versions(f"name='{name}'")}
    if not versions:
        models = ", ".join(sorted(all_models(store))) or "none"
        raise InputError(f"MODEL={name}: no such registered model; there are: {models}.")
    if not version:
        challenger = holder_of(store, name, schema.CHALLENGER)
        if challenger is None:
            raise InputError(
                f"MODEL={name}: it has no {schema.CHALLENGER}; give VERSION, one of {', '.join(sorted(versions, key=int))}."
            )
        return challenger
    if version not in versions:
        raise InputError(f"VERSION={version}: {name} has no such version; give one of {', '.join(sorted(versions, key=int))}.")
    return versions[version]


def holder_of(store: Store, name: str, alias: str) -> ModelVersion | None:
    """Return the version with an alias; None if there is none."""
    try:
        return store.client.get_model_version_by_alias(name, alias)
    except MlflowException as error:
        # No such model or no such alias: MLflow reports both as errors. Any other error is no answer.
        if error.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def _new_version(store: Store, name: str, run_id: str, tags: dict[str, str], description: str) -> str:
    client = store.client
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{schema.MODEL_FOLDER}"
    return str(client.create_model_version(name, source=source, run_id=run_id, tags=tags, description=description).version)


def _reason_to_keep(store: Store, name: str, version: str, val_loss: float, study: str) -> str:
    """Return why an untested version does not become challenger; empty if it does."""
    challenger, champion = holder_of(store, name, schema.CHALLENGER), holder_of(store, name, schema.CHAMPION)
    if challenger and str(challenger.version) != version:
        if is_tested(challenger):
            return f"version {challenger.version} is tested and stays challenger"
        if _loss_of(challenger, study) < val_loss:
            return "an earlier version has the lower val_loss and stays challenger"
    if champion and _loss_of(champion, study) <= val_loss:
        return f"the champion, version {champion.version}, was chosen at a val_loss as low; no alias was moved"
    return ""


def _loss_of(version: ModelVersion, study: str) -> float:
    """Return the validation loss at which a version was chosen; infinite without one or for another task."""
    same_task = version.tags.get(schema.STUDY_FINGERPRINT) == study
    return float(version.tags.get(schema.VAL_LOSS, "inf")) if same_task else float("inf")
