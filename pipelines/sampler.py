"""Optuna, asked and told: one fresh in-memory study per start, told what MLflow remembers."""

from __future__ import annotations

import warnings

import optuna

from pipelines.search import SearchSpace, Suggested, suggest
from pipelines.trial import Finished
from research.spec import ArchitectureSpec, fingerprint

SAMPLER = "TPE"


def new_study() -> optuna.Study:
    """An empty in-memory study."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(direction="minimize")


def sampler_for(seed: int, number: int) -> optuna.samplers.TPESampler:
    """A sampler whose random numbers belong to one trial number.

    A proposal then depends on the seed, the number and the trials told before it, not on how often the sweep
    was stopped: a resumed sweep proposes what an uninterrupted one would have.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        own_seed = int(fingerprint({"seed": seed, "number": number})[:8], 16)
        # `group` keeps conditional choices (a feed-forward ratio that only some shapes have) in the joint model.
        return optuna.samplers.TPESampler(seed=own_seed, multivariate=True, group=True, constant_liar=True)


def propose(
    study: optuna.Study,
    seed: int,
    number: int,
    space: SearchSpace,
    architectures: list[ArchitectureSpec],
    planned: Suggested | None = None,
) -> tuple[optuna.Trial, Suggested]:
    """The trial of this number: `planned` if it is given, else what the sampler says."""
    study.sampler = sampler_for(seed, number)
    if planned is not None:
        study.enqueue_trial(planned)
    trial = study.ask()
    return trial, suggest(trial, space, architectures)


def tell(study: optuna.Study, trial: optuna.Trial, finished: Finished) -> None:
    """A failure has no value, never a sentinel number."""
    if finished.outcome == "complete":
        study.tell(trial, finished.val_loss)
    else:
        study.tell(trial, state=optuna.trial.TrialState.FAIL)
