"""Grid, ranges, sampler and number of trials may differ between two starts; every earlier trial stays and counts."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from unittest.mock import MagicMock

import pytest

from pipelines.sweep.history import SweepHistory
from pipelines.sweep.job_queue import JobQueue
from pipelines.sweep.state import Sweep
from pipelines.trial.job import TrialKey
from research.errors import InputError
from research.tracking import schema
from research.tracking.run_writer import RunLog
from tests.conftest import start_sweep
from tests.support.small_sweeps import at_every_epoch, children_of, copy_of, options, run, stopping_at, tried


@pytest.fixture(scope="module")
def started(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return start_sweep(options(copy_of(migrated_store, tmp_path_factory.mktemp("started"))))


@pytest.mark.parametrize(
    ("settled", "total", "numbers"),
    [
        ([], 3, [0, 1, 2]),
        ([0, 1], 4, [2, 3]),
        ([0, 1, 3], 5, [2, 4]),
        ([0, 1, 3], 3, []),
        ([0, 1, 2, 9], 6, [3, 4]),
        ([0, 1, 2, 3, 5], 15, [4, *range(6, 15)]),
        ([1, 2], 2, []),
    ],
)
def test_the_lowest_open_numbers_are_tried_until_there_are_as_many_as_asked_for(
    settled: list[int], total: int, numbers: list[int], started: Sweep
) -> None:
    known = {TrialKey(number, 0): MagicMock(kind="trial", number=number) for number in settled}
    sweep = replace(started, history=SweepHistory(settled=known), total=total)
    source = JobQueue(sweep=sweep, known=MagicMock(), display=MagicMock(), lease=MagicMock())
    assert source._numbers == numbers


@pytest.fixture(scope="module")
def root(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(migrated_store, tmp_path_factory.mktemp("grown"))


@pytest.fixture(scope="module")
def first(root: Path) -> Sweep:
    return run(root, trials=2)


@pytest.fixture(scope="module")
def grown(first: Sweep, root: Path) -> Sweep:
    """Two trials more on other depths, with other ranges."""
    return run(root, add_trials=2, layers=(3, 6), learning_rate=(1e-3, 2e-3), random_share=0.0)


def test_a_focused_supplement_belongs_to_the_same_sweep(first: Sweep, grown: Sweep) -> None:
    assert grown.log.run_id == first.log.run_id
    assert [one.run_id for one in grown.trials[:2]] == [one.run_id for one in first.trials]
    added = [one.spec for one in grown.trials[2:]]
    assert len(added) == 2
    for spec in added:
        assert spec is not None
        assert spec.architecture.n_layers in (3, 6)
        assert 1e-3 <= spec.training.learning_rate <= 2e-3


def test_trials_outside_the_focus_inform_the_sampler(first: Sweep, grown: Sweep) -> None:
    told = grown.proposer.study.trials[:2]
    assert [one.value for one in told] == [one.val_loss for one in first.trials]
    for one in told:
        assert "shape" not in one.params
        assert {"dropout", "weight_decay", "batch_size"} <= set(one.params)


def test_the_parent_keeps_what_each_start_asked_for(first: Sweep, grown: Sweep) -> None:
    tags, data = grown.log.tags(), grown.context.store.client.get_run(grown.log.run_id).data
    before, after = json.loads(tags[schema.STARTS])[:2]
    assert (before["trials"], after["trials"]) == (2, 4)
    assert after["deepest"] == 6 < before["deepest"]
    assert after["search_learning_rate"] == "0.001 .. 0.002"
    assert ("search_layers" in before, after["search_layers"]) == (False, "3,6")
    assert int(data.params["deepest"]) == before["deepest"]
    assert data.metrics["sweep/trials_complete"] == 4


def test_even_twelve_starts_fit_into_their_tag(grown: Sweep) -> None:
    starts = json.loads(grown.log.tags()[schema.STARTS])
    assert len(json.dumps([starts[-1]] * 12)) < 8000


def test_the_sampler_may_change_between_two_starts(grown: Sweep, root: Path) -> None:
    for total, sampler in ((5, "gp"), (6, "cmaes"), (7, "random")):
        later = run(root, trials=total, sampler=sampler, random_share=0.0)
        assert (later.trials[-1].proposed_by, later.trials[-1].outcome) == (sampler, "complete")
        assert len(later.trials) == total


def test_a_supplement_that_was_stopped_is_finished_not_added_to(store_root: Path) -> None:
    run(store_root)
    with at_every_epoch(stopping_at(number=2, epoch=1)), pytest.raises(KeyboardInterrupt):
        run(store_root, add_trials=2)
    finished = run(store_root, add_trials=2)
    assert sorted(one.number for one in finished.trials) == [0, 1, 2]
    assert [one.outcome for one in tried(finished, 2)] == ["interrupted", "complete"]


def test_fewer_trials_than_there_are_take_none_away(first: Sweep, grown: Sweep, root: Path) -> None:
    before = len(children_of(grown))
    again = run(root, trials=1)
    assert len(again.trials) >= 4
    assert len(children_of(again)) >= before


def test_an_interrupted_trial_that_left_the_grid_is_proposed_anew(store_root: Path) -> None:
    with at_every_epoch(stopping_at(number=0, epoch=1)), pytest.raises(KeyboardInterrupt):
        run(store_root)
    resumed = run(store_root, layers=(3,))
    left, anew = tried(resumed, 0)
    assert left.params["n_layers"] != 3
    assert (anew.params["n_layers"], anew.outcome, anew.tags[schema.ATTEMPT]) == (3, "complete", "2")


def test_a_sweep_of_an_older_version_goes_on(store_root: Path) -> None:
    """Its runs do not say which process wrote them, which attempt they are or how many trials were planned."""
    with at_every_epoch(stopping_at(number=1, epoch=1)), pytest.raises(KeyboardInterrupt):
        run(store_root, trials=2)
    opened = start_sweep(options(store_root, trials=2))
    client = opened.context.store.client
    newer = {schema.WORKER, schema.ATTEMPT, schema.FROM_EPOCH, schema.OWNER, schema.STARTS, schema.TRIALS_PLANNED}
    for one in [opened.log.run_id, *(child.run_id for child in children_of(opened))]:
        for tag in newer & set(RunLog(opened.context.store, one).tags()):
            client.delete_tag(one, tag)
    interrupted = tried(opened, 1)[0].run_id
    client.delete_tag(interrupted, schema.OUTCOME)
    client.update_run(interrupted, status="RUNNING")
    resumed = run(store_root, trials=2)
    assert [one.outcome for one in tried(resumed, 1)] == ["interrupted", "complete"]
    assert len(resumed.trials) == 2


@pytest.mark.parametrize("changes", [{"add_trials": 0}, {"layers": (0,)}, {"layers": (2, 31)}])
def test_a_growth_that_means_nothing_is_refused_and_changes_nothing(
    changes: dict[str, object], grown: Sweep, root: Path
) -> None:
    before = grown.log.tags()
    with pytest.raises(InputError, match=r"^(TRIALS|LAYERS)="):
        run(root, **changes)
    assert grown.log.tags() == before
