"""The MLflow Model Registry: versions made from a run's `model` artifact, their aliases, and the one that is asked."""

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
    """A registered version."""

    name: str
    version: str
    kept: str = ""
    """Why it did not become challenger, in a few words; empty if it did."""

    @property
    def is_challenger(self) -> bool:
        """Whether it has the alias."""
        return not self.kept


@dataclass(frozen=True, kw_only=True)
class SelectedVersion:
    """The version of a registered model that is asked."""

    name: str
    version: str
    alias: str
    """`champion`, or `challenger` where there is no champion."""
    run_id: str
    """The run whose model it is."""
    gates: str = ""
    """`passed`, or `not passed: …` with those that were not; empty where they were not asked."""

    @property
    def title(self) -> str:
        """Name, version and standing in words."""
        standing = self.alias if self.alias == schema.CHAMPION else f"{self.alias}, there is no {schema.CHAMPION}"
        return f"{self.name} version {self.version} ({standing})"


def chosen(store: Store, name: str = "") -> list[SelectedVersion]:
    """The version to ask of the registered model of that name, or of every one; `InputError` lists what there is."""
    models = sorted(all_models(store))
    if not models:
        raise InputError("MODEL=: no model is registered yet; `make sweep` registers its best trial.")
    if name and name not in models:
        raise InputError(f"MODEL={name}: no such registered model; there are: {', '.join(models)}.")
    found = [one for model in ([name] if name else models) if (one := _chosen(store, model))]
    if not found:
        aliases = " or ".join(schema.ALIASES)
        raise InputError(f"MODEL={name}: no version has the alias {aliases}; `make promote` or `make sweep` gives it one.")
    return found


def load(store: Store, version: SelectedVersion) -> PyFuncModel:
    """Return the model of a version, from the artifact of its run: bars in, probabilities out.

    Raises `InputError` for a version without code of its own: it would answer with the code that is installed now.
    """
    import mlflow.pyfunc

    folder = store.local_artifact(version.run_id, schema.MODEL_FOLDER)
    if not list((folder / "code").glob(f"{schema.OWN_CODE}*")):
        raise InputError(
            f"MODEL={version.name}: version {version.version} carries no code of its own, so its answers would change with "
            "the installed code; register it again with `make train` or a new `make sweep`."
        )
    model: PyFuncModel = mlflow.pyfunc.load_model(str(folder))
    return model


def sentence_of(message: str) -> str:
    """What is wrong, from an error of MLflow's that repeats the data, the schema or advice of its own around it."""
    told = re.split(r"^Failed to (?:predict|enforce).*Error: ", message, maxsplit=1, flags=re.DOTALL)[-1]
    return told.split("\n", 1)[0].split(" IMPORTANT: ", 1)[0].strip()


def all_models(store: Store) -> list[str]:
    """Names of the registered models."""
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
        if held := holder_of(store, name, alias):
            gates = gates_of(held)
            return SelectedVersion(name=name, version=str(held.version), alias=alias, run_id=str(held.run_id), gates=gates)
    return None


def gates_of(version: ModelVersion) -> str:
    """`passed`, or `not passed: …` with those that were not; empty where `make promote` has not judged the version."""
    if schema.GATES not in version.tags:
        return ""
    failed = [gate["name"] for gate in json.loads(version.tags[schema.GATES])["gates"] if not gate["passed"]]
    return f"not passed: {', '.join(failed)}" if failed else "passed"


def register(store: Store, *, name: str, run_id: str, val_loss: float, study: str, description: str) -> RegisteredVersion:
    """Register a sweep's best trial, once, and make it challenger unless a version stands before it (`schema.CHALLENGER`)."""
    known = version_of(store, run_id, name)
    tags = {schema.VAL_LOSS: repr(val_loss), schema.STUDY_FINGERPRINT: study}
    version = str(known.version) if known else _new_version(store, name, run_id, tags, description)
    with aliases_held(store, name):
        kept = _stands_before(store, name, version, val_loss, study)
        if not kept:
            store.client.set_registered_model_alias(name, schema.CHALLENGER, version)
    return RegisteredVersion(name=name, version=version, kept=kept)


def register_apart(store: Store, *, name: str, run_id: str, val_loss: float, study: str, description: str) -> RegisteredVersion:
    """Register a final run's model, once; it moves no alias before it is tested. `val_loss` is that of the chosen trial."""
    known = version_of(store, run_id, name)
    tags = {schema.VAL_LOSS: repr(val_loss), schema.STUDY_FINGERPRINT: study}
    version = str(known.version) if known else _new_version(store, name, run_id, tags, description)
    return RegisteredVersion(name=name, version=version, kept="it is not tested yet")


def is_tested(version: ModelVersion) -> bool:
    """Whether the version says of itself that it was."""
    return schema.EVALUATION_RUN in version.tags


def note_tested(store: Store, run_id: str, evaluation: str, *, challenges: bool = True) -> None:
    """Make the run's version challenger if it `challenges`, and say on it that it was tested.

    Only the first time: a second look is no test.
    """
    version = version_of(store, run_id)
    if version is None or is_tested(version):
        return
    with aliases_held(store, version.name):
        champion = holder_of(store, version.name, schema.CHAMPION)
        if challenges and (champion is None or str(champion.version) != str(version.version)):
            store.client.set_registered_model_alias(version.name, schema.CHALLENGER, version.version)
        # Last: where it is missing after a kill, all of this is done again.
        store.client.set_model_version_tag(version.name, version.version, schema.EVALUATION_RUN, evaluation)


def aliases_held(store: Store, name: str) -> FileLock:
    """What keeps other processes of this machine from moving the model's aliases between a look at them and a move."""
    return store.one_at_a_time(f"champion-{name}")


def version_of(store: Store, run_id: str, name: str = "") -> ModelVersion | None:
    """The newest version that was made from a run, of one model if named."""
    found = store.client.search_model_versions(f"run_id='{run_id}'")
    return max((one for one in found if name in ("", one.name)), key=lambda one: int(one.version), default=None)


def named_version(store: Store, name: str, version: str = "") -> ModelVersion:
    """A version of a registered model, its challenger if none is named; `InputError` says what there is."""
    found = {str(one.version): one for one in store.client.search_model_versions(f"name='{name}'")}
    if not found:
        raise InputError(
            f"MODEL={name}: no such registered model; there are: {', '.join(sorted(all_models(store))) or 'none'}."
        )
    if not version:
        challenger = holder_of(store, name, schema.CHALLENGER)
        if challenger is None:
            raise InputError(
                f"MODEL={name}: it has no {schema.CHALLENGER}; give VERSION, one of {', '.join(sorted(found, key=int))}."
            )
        return challenger
    if version not in found:
        raise InputError(f"VERSION={version}: {name} has no such version; give one of {', '.join(sorted(found, key=int))}.")
    return found[version]


def holder_of(store: Store, name: str, alias: str) -> ModelVersion | None:
    """The version that has an alias."""
    try:
        return store.client.get_model_version_by_alias(name, alias)
    except MlflowException as problem:
        # No such model or no such alias: MLflow answers both with an error. Any other says nothing of who has it.
        if problem.error_code not in ("RESOURCE_DOES_NOT_EXIST", "INVALID_PARAMETER_VALUE"):
            raise
        return None


def _new_version(store: Store, name: str, run_id: str, tags: dict[str, str], description: str) -> str:
    client = store.client
    try:
        client.create_registered_model(name, description=description)
    except MlflowException as problem:
        if problem.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/{schema.MODEL_FOLDER}"
    return str(client.create_model_version(name, source=source, run_id=run_id, tags=tags, description=description).version)


def _stands_before(store: Store, name: str, version: str, val_loss: float, study: str) -> str:
    """What keeps an untested version from being challenger, in a few words; empty if nothing does."""
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
    """Validation loss that a version was chosen at; infinite if it has none or answers another study."""
    return (
        float(version.tags.get(schema.VAL_LOSS, "inf")) if version.tags.get(schema.STUDY_FINGERPRINT) == study else float("inf")
    )
