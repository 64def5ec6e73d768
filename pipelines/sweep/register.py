"""Register the best trial of a sweep as the challenger."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pipelines.trial.job import TrialResult
from research.task.task import Task
from research.tracking import schema
from research.tracking.registry import RegisteredVersion, register, version_of
from research.tracking.store import Store

if TYPE_CHECKING:
    from pipelines.sweep.state import Sweep
from pipelines.serving.packaging import log_model


def register_best(sweep: Sweep, best: TrialResult) -> RegisteredVersion:
    """Log the model to the best trial's run and register it as `<experiment>-<budget>-h<horizon>`."""
    assert best.spec is not None
    assert best.scores is not None
    task = sweep.context.task
    name = f"{task.experiment}-{sweep.title}"
    # A resumed sweep may have nothing new to register.
    known = version_of(sweep.context.store, best.run_id, name)
    if known is None:
        weights = sweep.context.store.local_artifact(best.linked_run_id or best.run_id, schema.WEIGHTS_FILE)
        log_model(sweep.context.store, best.run_id, task, best.spec, [weights])
    registered = register(
        sweep.context.store,
        name=name,
        run_id=best.run_id,
        val_loss=best.scores.loss,
        study=sweep.context.tags[schema.STUDY_FINGERPRINT],
        description=f"{best.name}: {best.n_parameters:,} parameters, val_loss {best.scores.loss:.4f}, "
        f"skill {best.scores.skill:+.3f}. Candidate: chosen on validation, not yet tested.",
    )
    if known is None and registered.version == "1":
        # Later the description may be somebody's own.
        _describe_model(sweep.context.store, name, task)
    return registered


def _describe_model(store: Store, name: str, task: Task) -> None:
    """What all versions of a registered model have in common, for its page."""
    spec = task.spec
    lines = [
        f"**{spec.data.title}: {spec.target.question}** Daily bars in, the probability of yes out, one per day; "
        f"features {spec.features.feature_set}.",
        "",
        f"`{schema.CHALLENGER}` is the next candidate: lowest validation loss so far, or a final model that was tested. "
        f"`{schema.CHAMPION}` was set by `make promote` and predicts by default. "
        f"`make serve MODEL={name}` answers over HTTP, `make predict MODEL={name}` in the terminal.",
    ]
    store.client.update_registered_model(name, "\n".join(lines))
