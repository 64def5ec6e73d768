"""A sweep that trains several trials as one model finds what it would have found one by one, and loses nothing either."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import replace
from pathlib import Path

import pytest
import torch

import pipelines.executors.stack_size as stacking
import pipelines.trial.trial
from pipelines.executors.choose import layout_for
from pipelines.executors.cpu_shares import CpuShare, measure, possible
from pipelines.executors.stack_size import best_size, replicate_stack_size, requested_size, stack_size
from pipelines.trial.job import Job
from pipelines.trial.trial import run_stack
from research.errors import InputError
from research.models.budget import Budget, architectures_for
from research.tracking import schema
from research.training.trial_state import EpochRecord
from tests.support.small_sweeps import at_every_epoch, checkpoints_in, children_of, options, run, tried, worker_of

CPU = torch.device("cpu")
KNOWN = architectures_for(Budget.parse("2K"))


def shape_of(run) -> tuple[object, ...]:
    return tuple(run.params[name] for name in ("d_model", "n_layers", "n_heads", "d_ff", "batch_size"))


def test_companions_share_a_shape_and_random_trials_stay_alone(store_root: Path) -> None:
    sweep = run(store_root, trials=8, stack="3")
    trials = {run.params["number"]: run for run in children_of(sweep) if run.kind == "trial"}
    assert sorted(trials) == list(range(8))
    assert {one.outcome for one in trials.values()} == {"complete"}
    leaders = {run.name: run for run in trials.values()}
    companions = defaultdict(list)
    for one in trials.values():
        if schema.COMPANION_OF in one.tags:
            assert shape_of(one) == shape_of(leaders[one.tags[schema.COMPANION_OF]])
            assert one.tags[schema.PROPOSED_BY] == "tpe"
            companions[one.tags[schema.COMPANION_OF]].append(one)
    assert companions
    for leader, found in companions.items():
        assert len(found) <= 2
        settings = {(run.params["learning_rate"], run.params["dropout"]) for run in (*found, leaders[leader])}
        assert len(settings) == len(found) + 1
        assert all(run.metrics["side_by_side"] == len(found) + 1 for run in (*found, leaders[leader]))
    assert all(one.metrics["side_by_side"] == 1 for one in trials.values() if one.tags[schema.PROPOSED_BY] == "random")


def test_a_stacked_trial_ends_as_it_would_alone(store_root: Path) -> None:
    # In nets of width 4 a difference in the last bit reaches the third digit within an epoch, as between numbers of threads.
    calm = {"budget": "6K", "widths": (16,), "layers": (1,), "sampler": "random", "random_share": 0.0}
    sweep = run(store_root, trials=4, epochs=2, stack="2", **calm)
    together = [one for one in children_of(sweep) if one.kind == "trial" and one.metrics["side_by_side"] == 2]
    assert together
    for one in sweep.trials:
        assert one.spec is not None
        worker = replace(worker_of(sweep), sweep=replace(sweep.context, parent_id=""))
        (alone,) = run_stack(worker, (Job(number=one.number, spec=one.spec),), lambda *_: True)
        assert alone.val_loss == pytest.approx(one.val_loss, abs=2e-5)
        assert alone.n_parameters == one.n_parameters


def test_replicates_are_trained_as_one(store_root: Path) -> None:
    sweep = run(store_root, trials=2, replicates=3, replicate_best=2, stack="3")
    found = [one for one in children_of(sweep) if one.kind == "replicate"]
    assert len(found) == 6
    assert {one.metrics["side_by_side"] for one in found} == {3}
    assert len({one.metrics["val_loss"] for one in found}) == 6


def test_a_stack_that_is_stopped_goes_on_where_it_was(store_root: Path) -> None:
    def stop(job: Job, record: EpochRecord) -> None:
        if record.epoch == 2 and job.number >= 2:
            raise KeyboardInterrupt

    settings = {"trials": 4, "epochs": 3, "stack": "2", "sampler": "random", "random_share": 0.0}
    with at_every_epoch(stop), pytest.raises(KeyboardInterrupt):
        run(store_root, **settings)
    assert checkpoints_in(store_root)
    sweep = run(store_root, **settings)
    assert {one.outcome for one in sweep.trials} == {"complete"}
    assert sorted(one.number for one in sweep.trials) == [0, 1, 2, 3]
    continued = [one for number in (2, 3) for one in tried(sweep, number) if one.tags[schema.FROM_EPOCH] != "0"]
    assert continued
    assert checkpoints_in(store_root) == []


def test_a_stack_that_fails_goes_on_one_by_one(store_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*_: object) -> None:
        raise RuntimeError("no stacks today")

    sweep = run(store_root, trials=1)
    (first,) = sweep.trials
    assert first.spec is not None
    specs = [replace(first.spec, training=replace(first.spec.training, seed=seed)) for seed in (5, 6)]
    monkeypatch.setattr(pipelines.trial.trial, "build_stack", broken)
    stack = tuple(Job(number=10 + place, spec=spec) for place, spec in enumerate(specs))
    ended = run_stack(worker_of(sweep), stack, lambda *_: True)
    assert [one.outcome for one in ended] == ["complete", "complete"]


@pytest.mark.parametrize(("given", "expected"), [("off", 1), ("4", 4), ("auto", None)])
def test_what_the_user_says_about_stacks(given: str, expected: int | None) -> None:
    assert requested_size(options(Path(), stack=given)) == expected


@pytest.mark.parametrize("given", ["0", "-2", "many", "2.5"])
def test_a_stack_that_is_no_number_is_refused(given: str) -> None:
    with pytest.raises(InputError, match=f"STACK={given}: give auto, off or a number of trials"):
        requested_size(options(Path(), stack=given))


@pytest.mark.parametrize(("gain", "expected"), [(1.1, 1), (1.5, 8)])
def test_a_stack_is_taken_only_where_it_clearly_pays(
    gain: float, expected: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rates = {1: 100.0, 4: 100 * (1 + (gain - 1) / 2), 8: 100 * gain}
    monkeypatch.setattr(stacking, "windows_per_second", lambda _a, _b, copies, _d: rates[copies])
    assert best_size(options(tmp_path), CPU, KNOWN, limit=20) == expected
    assert best_size(options(tmp_path), CPU, KNOWN, limit=3) == 1


def test_a_short_search_looks_at_many_shapes_instead(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stacking, "windows_per_second", lambda _a, _b, copies, _d: 100.0 * copies)
    assert stack_size(options(tmp_path), CPU, KNOWN, trials_left=31) == 1
    assert stack_size(options(tmp_path), CPU, KNOWN, trials_left=50) == 4
    assert replicate_stack_size(options(tmp_path), CPU, KNOWN, replicates=5) == 4


def test_a_probe_runs_once_per_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked = []
    monkeypatch.setattr(stacking, "windows_per_second", lambda _a, _b, copies, _d: asked.append(copies) or 100.0)
    for _ in range(2):
        best_size(options(tmp_path), CPU, KNOWN, limit=8)
    assert asked == [1, 4, 8]


def test_the_cores_are_shared_as_was_measured(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typical = KNOWN[0]
    shares = possible(2)
    assert shares == [CpuShare(1, 2), CpuShare(2, 1)]
    found = measure(typical, shares)
    assert set(found) == set(shares)
    assert all(rate > 0 for rate in found.values())
    for rates, workers in (({shares[0]: 100.0, shares[1]: 105.0}, 1), ({shares[0]: 100.0, shares[1]: 160.0}, 2)):
        monkeypatch.setattr("pipelines.executors.choose.usable_cores", lambda: 2)
        monkeypatch.setattr("pipelines.executors.choose.rates", lambda *_, rates=rates: rates)
        layout = layout_for(options(tmp_path, workers=None, threads=None), CPU, KNOWN, trials_left=5)
        assert layout.workers == workers
        assert layout_for(options(tmp_path, workers=None), CPU, KNOWN, trials_left=1).workers == 1
