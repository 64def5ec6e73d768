"""The Optuna sampler and pruner: one in-memory study per start, filled from MLflow."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import optuna
from optuna.trial import TrialState

from pipelines.sweep.search_space import SearchSpace, Suggested, distributions, expressible, suggest
from pipelines.trial.job import TrialResult
from research.fingerprint import fingerprint
from research.spec import ArchitectureSpec
from research.tracking import schema

Sampler = Literal["tpe", "gp", "cmaes", "random"]
Pruner = Literal["none", "hyperband", "median", "wilcoxon"]

ENQUEUED = "enqueued"
RANDOM = schema.RANDOM
WARM_START_FROM = 10
"""Trials from which CMA-ES can estimate where to begin: it looks at the best tenth (Nomura et al. 2021)."""
CURVES_NEEDED: tuple[Pruner, ...] = ("hyperband", "median", "wilcoxon")
"""Pruners compare curves, so that a resumed sweep has to read those of its earlier trials."""


@dataclass(frozen=True, kw_only=True)
class Suggestion:
    """Settings of one trial."""

    suggested: Suggested
    proposed_by: str
    """`enqueued`, `random` (the share kept apart for unbiased tuning curves) or the sampler's name."""
    trial: optuna.Trial


class TrialSampler:
    """The sampler of one start of a sweep.

    A proposal depends on the seed, its number and the earlier trials, not on how often the sweep was
    stopped: a resumed sweep proposes what an uninterrupted one would have. (CMA-ES alone keeps a state of its own
    within a start; after another start it begins from the trials that it is given.)
    """

    def __init__(
        self,
        *,
        sampler: Sampler,
        pruner: Pruner,
        seed: int,
        random_share: float,
        space: SearchSpace,
        architectures: list[ArchitectureSpec],
        epochs: int,
    ):
        self.sampler, self.seed, self.random_share = sampler, seed, random_share
        self.space, self.architectures = space, architectures
        optuna.logging.set_verbosity(optuna.logging.WARNING)
        self.prunes = pruner != "none"
        self._has_rungs = pruner == "hyperband"
        # Hyperband spreads trials over its brackets by the study's name, which must not change between starts.
        self.study = optuna.create_study(direction="minimize", study_name="sweep", pruner=_pruner(pruner, epochs))
        self._cmaes: optuna.samplers.BaseSampler | None = None

    def recall(self, suggested: Suggested, finished: TrialResult, curve: Mapping[int, float] | None = None) -> None:
        """Tell about a trial of an earlier start: as much of it as the present grid and ranges can express.

        Only TPE can learn from a trial with a part missing (its shape has left the grid); to the others it is reported
        whole or not at all.
        """
        params = expressible(suggested, self.space, self.architectures)
        if params != suggested and self.sampler != "tpe":
            return
        if self._has_rungs and params == suggested:
            self._replay(suggested, finished, curve or {})
            return
        known = distributions(self.space, self.architectures)
        state = {"complete": TrialState.COMPLETE, "pruned": TrialState.PRUNED}.get(finished.outcome, TrialState.FAIL)
        self.study.add_trial(
            optuna.trial.create_trial(
                state=state,
                value=finished.val_loss if finished.outcome == "complete" else None,
                params=params,
                distributions={name: known[name] for name in params},
                intermediate_values=dict(curve or {}),
            )
        )

    def _replay(self, suggested: Suggested, finished: TrialResult, curve: Mapping[int, float]) -> None:
        """Report a trial's curve again, since Hyperband keeps its rungs while a trial reports."""
        self.study.sampler = optuna.samplers.RandomSampler(seed=0)
        self.study.enqueue_trial(suggested)
        trial = self.study.ask()
        suggest(trial, self.space, self.architectures)
        for epoch, val_loss in sorted(curve.items()):
            trial.report(val_loss, epoch)
            trial.should_prune()
        self.tell(Suggestion(suggested=suggested, proposed_by=finished.proposed_by, trial=trial), finished)

    def propose(self, number: int, planned: Suggested | None = None, fixed: Suggested | None = None) -> Suggestion:
        """Return the settings of this trial: `planned` if given, else the sampler's proposal with `fixed` names held."""
        proposed_by = ENQUEUED if planned is not None else RANDOM if self.is_random(number) else self.sampler
        self.study.sampler = self._sampler(number, RANDOM if proposed_by == RANDOM else self.sampler, fixed)
        if planned is not None:
            self.study.enqueue_trial(planned)
        trial = self.study.ask()
        suggested = suggest(trial, self.space, self.architectures)
        assert planned is None or suggested == planned
        return Suggestion(suggested=suggested, proposed_by=proposed_by, trial=trial)

    def is_random(self, number: int) -> bool:
        """Return True if this trial is drawn at random, whatever the sampler has learned."""
        return _whole((number + 1) * self.random_share) > _whole(number * self.random_share)

    def report(self, proposal: Suggestion, epoch: int, val_loss: float) -> bool:
        """Report one epoch of a running trial. Return False to prune it; random trials are never pruned."""
        if not self.prunes or self._is_reported(proposal, epoch):
            return True
        proposal.trial.report(val_loss, epoch)
        return proposal.proposed_by == RANDOM or not proposal.trial.should_prune()

    def _is_reported(self, proposal: Suggestion, epoch: int) -> bool:
        """Return True if an earlier attempt of the trial has reported this epoch."""
        last = self.study.get_trials(deepcopy=False)[proposal.trial.number].last_step
        return last is not None and epoch <= last

    def tell(self, proposal: Suggestion, finished: TrialResult) -> None:
        """Record the end of a trial. A failed trial has no value, and no sentinel number."""
        if finished.outcome == "complete":
            self.study.tell(proposal.trial, finished.val_loss)
        else:
            state = TrialState.PRUNED if finished.outcome == "pruned" else TrialState.FAIL
            self.study.tell(proposal.trial, state=state)

    def _sampler(self, number: int, kind: str, fixed: Suggested | None) -> optuna.samplers.BaseSampler:
        seed = int(fingerprint({"seed": self.seed, "number": number})[:8], 16)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            sampler = self._free_sampler(seed, kind)
            return optuna.samplers.PartialFixedSampler(fixed, sampler) if fixed else sampler

    def _free_sampler(self, seed: int, kind: str) -> optuna.samplers.BaseSampler:
        if kind == "random":
            return optuna.samplers.RandomSampler(seed=seed)
        if kind == "gp":
            return optuna.samplers.GPSampler(seed=seed, warn_independent_sampling=False)
        if kind == "cmaes":
            self._cmaes = self._cmaes or self._new_cmaes(seed)
            return self._cmaes
        # `group` keeps conditional choices (a feed-forward ratio that only some shapes have) in the joint model.
        return optuna.samplers.TPESampler(seed=seed, multivariate=True, group=True, constant_liar=True)

    def _new_cmaes(self, seed: int) -> optuna.samplers.BaseSampler:
        known = [trial for trial in self.study.trials if trial.state == TrialState.COMPLETE]
        # CMA-ES moves the numbers; choices (shape, heads) have no order and are drawn at random beside it.
        numeric = [_numbers_of(trial) for trial in known]
        sources = numeric if len(numeric) >= WARM_START_FROM else None
        return optuna.samplers.CmaEsSampler(seed=seed, warn_independent_sampling=False, source_trials=sources)


def _numbers_of(trial: optuna.trial.FrozenTrial) -> optuna.trial.FrozenTrial:
    kept = {
        name: d for name, d in trial.distributions.items() if not isinstance(d, optuna.distributions.CategoricalDistribution)
    }
    params = {name: trial.params[name] for name in kept}
    return optuna.trial.create_trial(value=trial.value, params=params, distributions=kept)


def _pruner(name: Pruner, epochs: int) -> optuna.pruners.BasePruner:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        if name == "hyperband":
            return optuna.pruners.HyperbandPruner(min_resource=1, max_resource=epochs)
        if name == "median":
            return optuna.pruners.MedianPruner()
        return optuna.pruners.WilcoxonPruner() if name == "wilcoxon" else optuna.pruners.NopPruner()


def _whole(share: float) -> int:
    """Return the whole part, and 3 for 2.9999999999999996."""
    return int(share + 1e-9)
