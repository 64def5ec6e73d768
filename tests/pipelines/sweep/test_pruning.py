"""A pruned trial through a whole sweep: a true outcome, never a loss that could be compared."""

from __future__ import annotations

from pathlib import Path

import optuna
import pytest
from optuna.trial import TrialState

import pipelines.sweep.sampler
from pipelines.sweep.state import Sweep
from research.tracking import schema
from tests.support.small_sweeps import checkpoints_in, copy_of, curve_of, run, tried


class AllButTheFirst(optuna.pruners.BasePruner):
    """Stops every trial but the first after its second epoch."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number > 0 and trial.last_step == 2


@pytest.fixture(scope="module")
def pruned(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    root = copy_of(migrated_store, tmp_path_factory.mktemp("pruned"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pipelines.sweep.sampler, "_pruner", lambda *_: AllButTheFirst())
        return run(root, trials=2, epochs=3, pruner="median")


def test_a_pruned_trial_says_so_and_has_no_loss(pruned: Sweep) -> None:
    assert {one.number: one.outcome for one in pruned.trials} == {0: "complete", 1: "pruned"}
    (stopped,) = tried(pruned, 1)
    assert (stopped.outcome, stopped.status) == ("pruned", "KILLED")
    assert stopped.metrics["pruned_epoch"] == 2
    assert "val_loss" not in stopped.metrics
    curve = curve_of(pruned, stopped)
    assert list(curve) == [1, 2]
    assert stopped.metrics["val_loss_last"] == curve[2]
    assert "epoch 2" in stopped.tags[schema.REASON]
    assert checkpoints_in(pruned.options.store) == []


def test_the_sampler_hears_of_a_pruned_trial_without_a_sentinel(pruned: Sweep) -> None:
    complete, stopped = pruned.proposer.study.trials
    assert (complete.state, complete.value) == (TrialState.COMPLETE, pruned.best.val_loss if pruned.best else None)
    assert stopped.state == TrialState.PRUNED
    # Optuna's own reading of a pruned trial: its last reported loss, for pruners only.
    assert stopped.value in (None, stopped.intermediate_values[2])


def test_the_parent_counts_the_pruned_and_names_a_complete_best(pruned: Sweep) -> None:
    parent = pruned.context.store.client.get_run(pruned.log.run_id)
    assert parent.data.metrics["sweep/trials_pruned"] == 1
    assert parent.data.tags[schema.BEST_RUN] == tried(pruned, 0)[0].run_id


def test_a_pruned_trial_is_not_tried_again_and_its_curve_is_recalled(pruned: Sweep) -> None:
    before = {one.number: one.intermediate_values for one in pruned.proposer.study.trials}
    again = run(pruned.options.store, trials=2, epochs=3, pruner="median")
    assert len(tried(again, 1)) == 1
    assert {one.number: one.intermediate_values for one in again.proposer.study.trials} == before
    assert [one.state for one in again.proposer.study.trials] == [TrialState.COMPLETE, TrialState.PRUNED]


def test_epochs_that_a_new_attempt_takes_over_are_told_once(pruned: Sweep, recwarn: pytest.WarningsRecorder) -> None:
    proposal = pruned.proposer.propose(100)
    assert pruned.proposer.report(proposal, 1, 0.5)
    assert pruned.proposer.report(proposal, 1, 0.4)
    told = pruned.proposer.study.trials[proposal.trial.number].intermediate_values
    assert told == {1: 0.5}
    assert not [one for one in recwarn if "already reported" in str(one.message)]
