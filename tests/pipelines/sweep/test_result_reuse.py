"""Never twice: what the experiment has is linked into another sweep, with its own number and the other's result."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipelines.sweep.result_reuse import ResultCache
from pipelines.sweep.state import Sweep
from pipelines.trial.job import Job
from research.tracking import query, schema
from research.training.trainer import Trainer
from tests.support.small_sweeps import children_of, copy_of, curve_of, run, tried


@pytest.fixture(scope="module")
def root(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(migrated_store, tmp_path_factory.mktemp("links"))


@pytest.fixture(scope="module")
def first(root: Path) -> Sweep:
    return run(root, trials=2)


@pytest.fixture(scope="module")
def second(first: Sweep, root: Path) -> Sweep:
    """A budget whose first architectures are the same ones."""

    def trained(*_: object) -> None:
        raise AssertionError("it was trained again")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Trainer, "run_all", trained)
        return run(root, budget="2.01K", trials=2)


def test_another_sweep_links_what_it_would_have_trained_again(first: Sweep, second: Sweep) -> None:
    assert second.log.run_id != first.log.run_id
    assert [(one.name, one.number, one.val_loss, one.outcome) for one in second.trials] == [
        (one.name, one.number, one.val_loss, "complete") for one in first.trials
    ]
    assert [one.linked_run_id for one in second.finished] == [one.run_id for one in first.finished]
    assert all(one.ending.endswith(", linked") for one in second.trials)
    assert [one.value for one in second.proposer.study.trials] == [one.val_loss for one in first.trials]


def test_a_link_is_a_run_of_its_own_sweep_with_the_final_metrics_of_the_other(first: Sweep, second: Sweep) -> None:
    for number in (0, 1):
        (known,), (link,) = tried(first, number), tried(second, number)
        assert (link.status, link.tags[schema.LINKED]) == ("FINISHED", known.run_id)
        assert link.tags[schema.SWEEP_FINGERPRINT] != known.tags[schema.SWEEP_FINGERPRINT]
        assert link.params == {**known.params, "budget": "2.01K"}
        assert link.name == known.name
        assert json.loads(link.tags[schema.SUGGESTED]) == json.loads(known.tags[schema.SUGGESTED])
        assert link.metrics["val_loss"] == known.metrics["val_loss"]
        assert not [name for name in link.metrics if name.startswith(schema.EPOCH_PREFIX)]
        assert curve_of(second, link) == {}


def test_the_days_of_a_link_are_those_of_the_run_it_stands_for(first: Sweep, second: Sweep) -> None:
    mine, theirs = (query.predictions(one.context.store, one.trials[0].run_id) for one in (second, first))
    assert mine.equals(theirs)


def test_links_are_recalled_and_not_linked_to(second: Sweep, root: Path) -> None:
    third = run(root, budget="2.02K", trials=2)
    assert [one.linked_run_id for one in third.trials] == [one.linked_run_id for one in second.trials]
    again = run(root, budget="2.01K", trials=2)
    assert [one.linked_run_id for one in again.trials] == [one.linked_run_id for one in second.trials]
    assert len(children_of(again)) == len(children_of(second)) == 3


def test_a_checkpoint_of_a_trial_that_is_linked_after_all_is_removed(second: Sweep, root: Path) -> None:
    spec = second.trials[0].spec
    assert spec is not None
    left = second.context.checkpoint_of(spec)
    left.write_bytes(b"state of an interrupted attempt")
    assert run(root, budget="2.03K").trials[0].linked_run_id
    assert not left.exists()


def job_of(sweep: Sweep, leading_loss: float) -> Job:
    spec = sweep.trials[0].spec
    assert spec is not None
    return Job(number=9, spec=spec, leading_loss=leading_loss)


def test_a_new_best_is_linked_only_with_its_weights(first: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    known = ResultCache(first.context)
    assert first.trials[0].scores is not None
    monkeypatch.setattr(ResultCache, "_has_weights", lambda *_: False)
    assert known.trial(job_of(first, leading_loss=float("inf"))) is None
    beaten = known.trial(job_of(first, leading_loss=0.0))
    assert beaten is not None
    assert (beaten.number, beaten.linked_run_id) == (9, first.trials[0].run_id)


@pytest.mark.parametrize("outcome", ["crashed", "pruned", "infeasible", "interrupted"])
def test_an_outcome_that_need_not_come_again_is_not_linked(outcome: str, first: Sweep) -> None:
    client, run_id = first.context.store.client, first.trials[0].run_id
    client.set_tag(run_id, schema.OUTCOME, outcome)
    try:
        assert ResultCache(first.context).trial(job_of(first, leading_loss=0.0)) is None
    finally:
        client.set_tag(run_id, schema.OUTCOME, "complete")
