"""An interrupted trial goes on from its checkpoint; a trial that has its outcome leaves none."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pipelines.sweep.state import Sweep
from research.tracking import schema
from research.training.trial_state import EpochRecord
from tests.conftest import start_sweep
from tests.pipelines.trial.test_trial import spec_of, trained
from tests.support.small_sweeps import at_every_epoch, checkpoints_in, copy_of, curve_of, options, run, stopping_at, tried

EPOCHS = 3


@pytest.fixture(scope="module")
def root(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(migrated_store, tmp_path_factory.mktemp("whole"))


@pytest.fixture(scope="module")
def whole(root: Path) -> Sweep:
    return run(root, epochs=EPOCHS)


def test_a_complete_trial_leaves_no_checkpoint(whole: Sweep, root: Path) -> None:
    assert [one.outcome for one in whole.trials] == ["complete"]
    assert checkpoints_in(root) == []


def test_an_interrupted_trial_goes_on_as_a_new_attempt_to_the_same_loss(whole: Sweep, store_root: Path) -> None:
    with at_every_epoch(stopping_at(number=0, epoch=2)), pytest.raises(KeyboardInterrupt):
        run(store_root, epochs=EPOCHS)
    (kept,) = checkpoints_in(store_root)
    assert kept.endswith(".safetensors")

    resumed = run(store_root, epochs=EPOCHS)
    first, second = tried(resumed, 0)
    assert (first.outcome, first.status, first.tags[schema.REASON]) == ("interrupted", "KILLED", "stopped by the user")
    assert (second.outcome, second.status) == ("complete", "FINISHED")
    assert [(one.tags[schema.ATTEMPT], one.tags[schema.FROM_EPOCH]) for one in (first, second)] == [("1", "0"), ("2", "2")]
    assert list(curve_of(resumed, first)) == [1, 2]
    assert curve_of(resumed, second) == curve_of(whole, tried(whole, 0)[0])
    assert resumed.trials[0].val_loss == whole.trials[0].val_loss
    assert checkpoints_in(store_root) == []


def pruning(_: EpochRecord) -> bool:
    return False


def breaking(_: EpochRecord) -> bool:
    raise RuntimeError("cable unplugged")


@pytest.mark.parametrize(("report", "outcome"), [(pruning, "pruned"), (breaking, "crashed")])
def test_a_trial_that_fails_leaves_no_checkpoint(report: Callable[[EpochRecord], bool], outcome: str, store_root: Path) -> None:
    sweep = start_sweep(options(store_root, epochs=2))
    there = []

    def looking(record: EpochRecord) -> bool:
        there.append(len(checkpoints_in(store_root)))
        return report(record)

    assert trained(sweep, spec_of(sweep), looking).outcome == outcome
    assert there == [1]
    assert checkpoints_in(store_root) == []
