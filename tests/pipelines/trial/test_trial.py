from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from mlflow.entities import Run

import pipelines.trial.trial
import research.training.trial_state
from pipelines.options import SweepOptions
from pipelines.sweep.search_space import FixedSettings, first_suggestions, trial_spec
from pipelines.sweep.state import Sweep
from pipelines.trial.context import WorkerContext
from pipelines.trial.job import Job, TrialResult
from pipelines.trial.trial import run_stack
from research.errors import InputError
from research.spec import ArchitectureSpec, TrainingSpec, TrialSpec
from research.training.trial_state import EpochRecord
from tests.conftest import start_sweep
from tests.support.small_sweeps import worker_of


class Counting:
    """Counts epochs and lets every trial go on."""

    def __init__(self) -> None:
        self.epochs = 0

    def __call__(self, record: EpochRecord) -> bool:
        self.epochs += 1
        return True


def trained(
    sweep: Sweep, spec: TrialSpec, report: Callable[[EpochRecord], bool] | None = None, *, worker: WorkerContext | None = None
) -> TrialResult:
    report = report or Counting()
    return run_stack(worker or worker_of(sweep), (Job(number=0, spec=spec),), lambda _, record: report(record))[0]


@pytest.fixture
def sweep(store_root: Path) -> Sweep:
    return start_sweep(SweepOptions(budget="2K", trials=1, epochs=2, device="cpu", workers=1, threads=1, store=store_root))


def spec_of(sweep: Sweep, **training: object) -> TrialSpec:
    fixed = FixedSettings(task=sweep.context.task.spec, epochs=2, patience=2, seed=0)
    spec = trial_spec(first_suggestions(sweep.architectures, sweep.space)[1], fixed, sweep.architectures)
    return replace(spec, training=replace(spec.training, **training))  # type: ignore[arg-type]


def run_of(sweep: Sweep, finished: TrialResult) -> Run:
    return sweep.context.store.client.get_run(finished.run_id)


def only_trial(sweep: Sweep) -> Run:
    (run,) = sweep.context.store.client.search_runs([sweep.context.experiment_id], "tags.run_kind = 'trial'")
    return run


def failing(problem: Exception) -> Callable[..., None]:
    def build(*_: object) -> None:
        raise problem

    return build


def test_an_exploding_loss_is_recorded_as_diverged_with_its_epoch(sweep: Sweep) -> None:
    finished = trained(sweep, spec_of(sweep, learning_rate=1e9, gradient_clip=1e9))
    run = run_of(sweep, finished)
    assert (finished.outcome, run.info.status) == ("diverged", "FAILED")
    assert run.data.metrics["diverged_epoch"] == 1
    assert "val_loss" not in run.data.metrics
    assert "epoch 1" in run.data.tags["reason"]


def test_a_crash_leaves_its_traceback_and_the_sweep_goes_on(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.trial.trial, "build_model", failing(RuntimeError("cable unplugged")))
    finished = trained(sweep, spec_of(sweep))
    run = run_of(sweep, finished)
    assert (finished.outcome, run.info.status) == ("crashed", "FAILED")
    assert "cable unplugged" in run.data.tags["reason"]
    assert "cable unplugged" in sweep.context.store.local_artifact(finished.run_id, "traceback.txt").read_text()
    assert run.data.params["d_model"] == "4"


def test_running_out_of_memory_is_infeasible(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipelines.trial.trial, "build_model", failing(torch.OutOfMemoryError("no room")))
    finished = trained(sweep, spec_of(sweep))
    assert run_of(sweep, finished).data.tags["outcome"] == "infeasible"


def test_ctrl_c_ends_the_trial_as_interrupted(sweep: Sweep) -> None:
    class Stopping(Counting):
        def __call__(self, record: EpochRecord) -> bool:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        trained(sweep, spec_of(sweep), Stopping())
    run = only_trial(sweep)
    assert (run.data.tags["outcome"], run.info.status) == ("interrupted", "KILLED")
    assert run.data.metrics["epoch/val_loss"] > 0


def test_the_run_exists_with_its_parameters_before_training_starts(sweep: Sweep) -> None:
    class Looking(Counting):
        def __call__(self, record: EpochRecord) -> bool:
            run = only_trial(sweep)
            assert run.info.status == "RUNNING"
            assert run.data.params["learning_rate"] == repr(spec.training.learning_rate)
            assert "outcome" not in run.data.tags
            return super().__call__(record)

    spec, looking = spec_of(sweep), Looking()
    trained(sweep, spec, looking)
    assert looking.epochs == 2


def test_a_parameter_that_does_not_reach_the_optimizer_stops_the_trial(sweep: Sweep, monkeypatch: pytest.MonkeyPatch) -> None:
    real = research.training.trial_state.build_optimizer

    def forgetful(parameters: object, spec: TrainingSpec, architecture: ArchitectureSpec) -> torch.optim.AdamW:
        return real(parameters, replace(spec, weight_decay=0.0), architecture)

    monkeypatch.setattr(research.training.trial_state, "build_optimizer", forgetful)
    counting = Counting()
    with pytest.raises(InputError, match="weight_decay"):
        trained(sweep, spec_of(sweep), counting)
    assert counting.epochs == 0
    assert only_trial(sweep).data.tags["outcome"] == "crashed"


def test_a_split_other_than_the_declared_one_stops_the_trial(sweep: Sweep) -> None:
    spec = spec_of(sweep)
    declared = replace(spec.task.split, embargo=5)
    with pytest.raises(InputError, match="embargo=5 was declared but 0 is in use"):
        trained(sweep, replace(spec, task=replace(spec.task, split=declared)))


def test_an_architecture_outside_its_budget_stops_the_trial(sweep: Sweep) -> None:
    spec = spec_of(sweep)
    wide = replace(spec, architecture=replace(spec.architecture, d_model=16, d_ff=64))
    with pytest.raises(InputError, match="BUDGET=2K"):
        trained(sweep, wide)
