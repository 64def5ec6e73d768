"""Trials in worker processes: one that dies costs its trial an epoch at most, and nobody outlives the driver."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from unittest.mock import MagicMock, patch

import optuna
import psutil
import pytest
from optuna.trial import TrialState

from pipelines.sweep.dispatcher import Dispatch
from pipelines.sweep.history import attempts_of, close_lost_attempt
from pipelines.sweep.state import Sweep
from pipelines.trial.job import Job, StackResult, TrialResult
from pipelines.trial.record import declared_params
from research.errors import InputError
from research.processes import signals_deferred
from research.tracking import query, schema
from research.tracking.process_identity import ProcessId
from research.tracking.query import RunRecord
from research.tracking.run_writer import RunLog
from research.tracking.store import open_store
from research.training.trial_state import EpochRecord
from tests.conftest import start_sweep
from tests.pipelines.trial.test_trial import spec_of
from tests.support.small_sweeps import at_every_epoch, checkpoints_in, copy_of, curve_of, options, run, tried

EPOCHS = 3


@pytest.fixture(scope="module")
def started(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return start_sweep(options(copy_of(migrated_store, tmp_path_factory.mktemp("started")), epochs=2))


def running(root: Path, number: int | None = None) -> list[RunRecord]:
    """The trials that somebody trains at the moment."""
    store = open_store(root)
    found = store.client.get_experiment_by_name("sp500-threshold-1pct")
    runs = query.runs_with_tag(store, found.experiment_id, schema.KIND, "trial") if found else []
    return [one for one in runs if one.status == "RUNNING" and number in (None, one.params.get("number"))]


class TheThird(optuna.pruners.BasePruner):
    """Stops the third trial after its first epoch."""

    def prune(self, study: optuna.Study, trial: optuna.trial.FrozenTrial) -> bool:
        return trial.number == 2


@pytest.fixture(scope="module")
def survived(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    """Two workers: the first trial kills its own in its first epoch, the second loses its own once, the third is pruned."""
    root = copy_of(migrated_store, tmp_path_factory.mktemp("killed"))
    deaths = {0: 1, 1: 2}

    def kill(job: Job, record: EpochRecord) -> None:
        if deaths.get(job.number) != record.epoch:
            return
        del deaths[job.number]
        (run,) = running(root, job.number)
        os.kill(ProcessId.read(run.tags[schema.WORKER]).pid, signal.SIGKILL)
        if job.number == 0:
            # As if it had died before its first epoch was over.
            for path in (root / "checkpoints").glob(f"{job.spec.fingerprint}*"):
                path.unlink()

    changes = {"trials": 3, "epochs": EPOCHS, "workers": 2, "attempts": 1, "pruner": "median", "random_share": 0.0}
    with at_every_epoch(kill), patch("pipelines.sweep.sampler._pruner", return_value=TheThird()):
        return run(root, **changes)


@pytest.mark.slow
def test_a_trial_whose_worker_was_killed_ends_as_in_this_process(survived: Sweep, store_root: Path) -> None:
    alone = run(store_root, trials=2, epochs=EPOCHS)
    (whole,), (died, ended) = tried(alone, 1), tried(survived, 1)
    assert (died.outcome, died.status) == ("interrupted", "KILLED")
    assert died.tags[schema.REASON].endswith("was killed by signal 9")
    assert (ended.outcome, ended.tags[schema.ATTEMPT], ended.tags[schema.FROM_EPOCH]) == ("complete", "2", "2")
    assert ended.metrics["val_loss"] == whole.metrics["val_loss"]
    assert curve_of(survived, ended) == curve_of(alone, whole)


@pytest.mark.slow
def test_a_trial_that_has_used_up_its_attempts_is_crashed_and_the_sweep_goes_on(survived: Sweep) -> None:
    assert {one.number: one.outcome for one in survived.trials} == {0: "crashed", 1: "complete", 2: "pruned"}
    (last,) = tried(survived, 0)
    assert (last.outcome, last.status) == ("crashed", "FAILED")
    assert "it took its process down 1 times in epoch 1; worker process" in last.tags[schema.REASON]
    states = [one.state for one in survived.proposer.study.trials]
    assert states == [TrialState.FAIL, TrialState.COMPLETE, TrialState.PRUNED]
    assert checkpoints_in(survived.options.store) == []
    assert survived.log.tags_and_status()[1] == "FINISHED"


@pytest.mark.slow
def test_a_worker_prunes_its_trial_when_the_driver_says_so(survived: Sweep) -> None:
    (run,) = tried(survived, 2)
    assert (run.outcome, run.status, run.metrics["pruned_epoch"]) == ("pruned", "KILLED", 1)
    assert list(curve_of(survived, run)) == [1]
    assert "val_loss" not in run.metrics


@pytest.mark.slow
def test_no_worker_is_left_after_a_sweep(survived: Sweep) -> None:
    assert survived.trials
    assert not [child for child in psutil.Process().children() if "spawn_main" in " ".join(child.cmdline())]


@pytest.mark.slow
def test_a_driver_that_is_killed_takes_its_workers_with_it(store_root: Path) -> None:
    flags = ["--budget", "2K", "--trials", "9", "--epochs", "200", "--patience", "200", "--workers", "2", "--device", "cpu"]
    driver = subprocess.Popen(
        [sys.executable, "-m", "tapescale", "sweep", *flags, "--store", str(store_root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    until(lambda: len(running(store_root)) == 2)
    workers = [ProcessId.read(one.tags[schema.WORKER]) for one in running(store_root)]
    assert all(one.is_alive and one.pid != driver.pid for one in workers)
    driver.kill()
    _, errors = driver.communicate(timeout=60)
    until(lambda: not any(one.is_alive for one in workers))
    assert "Traceback" not in errors


def until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 90
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.1)


def test_workers_that_die_before_they_begin_end_the_sweep_with_a_sentence(started: Sweep) -> None:
    job = Job(number=0, spec=spec_of(started))
    executor = MagicMock(slots=1)
    executor.wait.side_effect = lambda _: StackResult(
        stack=executor.submit.call_args.args[0], lost="worker process 12 ended with exit code 1"
    )
    dispatch = Dispatch(executor, started.context, MagicMock(), started.history.attempt_counts, 3, MagicMock())
    jobs = iter([(job,)])
    with pytest.raises(InputError, match=r"WORKERS: worker process 12 ended with exit code 1 before it began a trial"):
        dispatch.run(lambda: next(jobs, None), MagicMock())
    assert executor.submit.call_count == 3


def test_a_worker_that_is_stopped_by_somebody_else_counts_as_dead(started: Sweep) -> None:
    """A guard against memory shortage stops politely before it kills; a trial must not come back for ever."""
    spec = spec_of(started, seed=3)
    found: list[TrialResult | None] = []
    for attempt in ("1", "2"):
        job = Job(number=3, spec=spec, tags={schema.SUGGESTED: "{}", schema.ATTEMPT: attempt})
        log = RunLog.start(
            started.context.store,
            experiment_id=started.context.experiment_id,
            kind="trial",
            name=job.name,
            params={**declared_params(spec, started.context.budget), "number": 3},
            tags={**job.tags, schema.TRIAL_FINGERPRINT: spec.fingerprint},
            parent_id=started.log.run_id,
        )
        log.finish("interrupted", tags={schema.REASON: "stopped by the user"})
        made = attempts_of(started.context, job)
        found.append(close_lost_attempt(started.context, made, made[-1:], "worker process 12 ended with exit code 0", 2))
    assert found[0] is None
    assert found[1] is not None
    assert found[1].outcome == "crashed"


def test_a_stop_waits_until_a_worker_has_started_whichever_thread_takes_it() -> None:
    over, reached = threading.Event(), False
    threading.Thread(target=over.wait, daemon=True).start()
    try:
        with pytest.raises(KeyboardInterrupt), signals_deferred():  # noqa: PT012
            os.kill(os.getpid(), signal.SIGINT)
            time.sleep(0.05)
            reached = True
    finally:
        over.set()
    assert reached
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.SIGINT not in signal.pthread_sigmask(signal.SIG_BLOCK, [])
