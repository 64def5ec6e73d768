from __future__ import annotations

import io
import json
import os
import re
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from mlflow.entities import Metric
from rich.console import Console

from analysis import status
from analysis.monitor import sweep_progress as watching
from analysis.monitor.disk import Disk, disk_under
from analysis.monitor.sweep_progress import SweepState
from analysis.monitor.throughput import Pace, pace_of
from analysis.options import StatusOptions
from research.errors import InputError
from research.tracking import query, schema
from research.tracking.process_identity import STALE_SECONDS, DriverClaim, ProcessId
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store

EXPERIMENT = "sp500-threshold-1pct"
ELSEWHERE = ProcessId(host="another-host", pid=7, started=1.0)


@pytest.fixture
def store(store_root: Path) -> Store:
    return open_store(store_root)


@pytest.fixture(scope="module")
def dead() -> ProcessId:
    """A process of this host that has ended."""
    with subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE) as process:
        mine = ProcessId.mine()
        return ProcessId(host=mine.host, pid=process.pid, started=mine.started + 1)


def sweep(
    store: Store, *, owner: ProcessId | None = None, silent: float = 0.0, planned: int = 6, name: str = "2K-h1"
) -> RunLog:
    held = (owner or ProcessId.mine()).text(token="t", seen=time.time() - silent)
    tags = {schema.OWNER: held, schema.TRIALS_PLANNED: str(planned)}
    return RunLog.start(store, experiment_id=store.experiment(EXPERIMENT), kind="sweep", name=name, params={}, tags=tags)


def child(
    parent: RunLog,
    number: int,
    *,
    kind: schema.RunKind = "trial",
    seconds: float = 0.0,
    worker: ProcessId | None = None,
    tags: dict[str, str] | None = None,
) -> RunLog:
    """A run that has been open for some seconds."""
    store = parent.store
    log = RunLog.start(
        store,
        experiment_id=store.experiment(EXPERIMENT),
        kind=kind,
        name=f"{number:04d} d4 L4 h1 ff2",
        params={"number": number, "epochs": 20},
        tags={schema.WORKER: (worker or ProcessId.mine()).text(), schema.FROM_EPOCH: "0", **(tags or {})},
        parent_id=parent.run_id,
    )
    begin(log, seconds)
    return log


def begin(log: RunLog, seconds: float) -> None:
    """Set the start of a run back; MLflow has no call for that."""
    with sqlite3.connect(log.store.database) as connection:
        at = int((time.time() - seconds) * 1000)
        connection.execute("UPDATE runs SET start_time = ? WHERE run_uuid = ?", (at, log.run_id))


def progress(log: RunLog, *ago: float, metric: str = schema.PROGRESS_STEP, stride: int = 10) -> None:
    """Points of a curve, each so many seconds ago."""
    now = time.time()
    points = [Metric(metric, 1.0, int((now - one) * 1000), stride * index) for index, one in enumerate(ago, 1)]
    log.store.client.log_batch(log.run_id, metrics=points)


def complete(parent: RunLog, number: int, loss: float, seconds: float = 10.0, **more: dict[str, str]) -> None:
    child(parent, number, seconds=seconds, **more).finish("complete", metrics={"val_loss": loss, "n_params": 1789.0})


def only(store: Store) -> SweepState:
    (state,), _ = watching.sweeps(store, None, 5)
    return state


def shown(store: Store) -> str:
    screen = Console(file=io.StringIO(), width=140)
    screen.print(status.status_view(store, None), crop=False)
    return screen.file.getvalue()


def test_a_running_sweep_shows_its_counts_its_best_and_the_time_left(store: Store) -> None:
    parent = sweep(store, planned=9)
    for number, (loss, seconds) in enumerate(((0.40, 10.0), (0.38, 20.0), (0.39, 40.0))):
        complete(parent, number, loss, seconds)
    child(parent, 3).finish("crashed")
    child(parent, 4).finish("interrupted")
    child(parent, 4, seconds=5.0)
    child(parent, 5, seconds=5.0)
    child(parent, 0, kind="replicate").finish("complete", metrics={"val_loss": 0.1, "n_params": 1.0})
    child(parent, 0, kind="baseline").finish("complete", metrics={"val_loss": 0.1})
    state = only(store)
    assert (state.done, state.running, state.left, state.replicates) == (4, 2, 3, 1)
    assert state.endings == {"crashed": 1, "interrupted": 1}
    assert state.best == watching.BestTrial(name="0001 d4 L4 h1 ff2", n_params=1789, val_loss=0.38)
    assert state.seconds_per_trial == pytest.approx(20.0, abs=1.0)
    # Three trials of 20 s and two with 15 s left, on two workers.
    assert state.seconds_left == pytest.approx((3 * 20 + 2 * 15) / 2, abs=2.0)
    text = shown(store)
    assert "2K-h1 on sp500-threshold-1pct: 4 of 9 trials done, 2 running, 3 left, 1 replicates" in text
    assert "1 crashed, 1 interrupted" in text
    assert "0001 d4 L4 h1 ff2: 1,789 parameters, val_loss 0.3800" in text
    assert "20 s a trial (median)" in text


def test_trials_that_were_not_trained_here_in_one_go_do_not_count_for_the_time(store: Store) -> None:
    parent = sweep(store)
    complete(parent, 0, 0.40, 30.0)
    complete(parent, 1, 0.41, 1.0, tags={schema.LINKED: "x"})
    complete(parent, 2, 0.42, 2.0, tags={schema.FROM_EPOCH: "5"})
    child(parent, 3, seconds=1.0).finish("infeasible")
    assert only(store).seconds_per_trial == pytest.approx(30.0, abs=1.0)


def test_a_slow_trial_is_judged_by_its_own_epochs(store: Store) -> None:
    parent = sweep(store, planned=3)
    complete(parent, 0, 0.40, 10.0)
    slow = child(parent, 1, seconds=100.0)
    progress(slow, 60.0, 50.0, 40.0, 30.0, 5.0, metric="epoch/val_loss", stride=1)
    child(parent, 2)
    state = only(store)
    assert (state.trainings[0].epochs_done, state.trainings[0].epochs) == (5, 20)
    # The other worker is done long before.
    assert state.seconds_left == pytest.approx(300.0, abs=5.0)


def test_a_living_driver_is_shown_with_its_last_sign(store: Store) -> None:
    sweep(store, silent=12.0)
    assert f"driver  {ProcessId.mine()}, last heartbeat 12 s ago, alive" in shown(store)


def test_a_driver_that_is_there_but_silent_is_not_called_gone(store: Store) -> None:
    sweep(store, silent=STALE_SECONDS + 60)
    text = shown(store)
    assert "the driver exists but is silent" in text
    assert "gone" not in text


@pytest.mark.parametrize(("silent", "gone"), [(STALE_SECONDS - 60, False), (STALE_SECONDS + 60, True)])
def test_a_driver_on_another_host_is_gone_when_it_has_been_silent_too_long(store: Store, silent: float, gone: bool) -> None:
    complete(sweep(store, owner=ELSEWHERE, silent=silent), 0, 0.4)
    assert ("the same command continues" in shown(store)) == gone
    assert "process 7 on another-host" in shown(store)
    assert (only(store).seconds_left is None) == gone


def test_a_sweep_whose_driver_died_says_how_it_goes_on(store: Store, dead: ProcessId) -> None:
    parent = sweep(store, owner=dead, silent=3.0)
    child(parent, 0, worker=dead)
    text = shown(store)
    assert "the driver is gone: the same command continues the sweep" in text
    assert f"warning 0000 d4 L4 h1 ff2: {dead}, which trained it, is gone" in text


def test_a_stalled_trial_is_warned_of_with_its_numbers_and_another_is_not(store: Store) -> None:
    parent = sweep(store)
    progress(child(parent, 0, seconds=140.0), *range(130, 95, -5))
    progress(child(parent, 1, seconds=30.0), 25.0, 20.0, 15.0, 10.0, 5.0)
    child(parent, 2, seconds=500.0)
    stalled, moving, silent = sorted(only(store).trainings, key=lambda one: one.name)
    # Time goes on while the test does.
    assert re.match(r"stalled\? no step for 1\d\d s; the usual interval is 5.0 s", stalled.pace.stall)
    assert (moving.pace.stall, silent.pace.stall) == ("", "")
    assert moving.pace.steps_per_second == pytest.approx(2.0, abs=0.05)
    text = shown(store)
    assert text.count("warning") == 1
    assert "warning 0000 d4 L4 h1 ff2: stalled?" in text
    assert "none yet" in text


@pytest.mark.parametrize(
    ("median", "last", "silent", "word"),
    [
        (5.0, 5.0, 29.0, ""),
        (5.0, 5.0, 31.0, "stalled"),
        (10.0, 10.0, 59.0, ""),
        (10.0, 10.0, 61.0, "stalled"),
        (0.1, 0.1, 20.0, ""),
        (5.0, 31.0, 1.0, "slow"),
        (5.0, 29.0, 1.0, ""),
    ],
)
def test_a_stall_is_six_usual_intervals_and_half_a_minute(median: float, last: float, silent: float, word: str) -> None:
    pace = Pace(step=1, steps_per_second=1.0, silent_seconds=silent, last_interval=last, median_interval=median)
    assert pace.stall.partition(":")[0].partition("?")[0] == word


def test_a_clock_that_is_ahead_of_ours_gives_no_negative_time() -> None:
    assert pace_of([(10_000, 1)], 5_000, now=8.0).silent_seconds == 0.0


def test_steps_that_went_back_to_a_checkpoint_do_not_spoil_the_speed() -> None:
    pace = pace_of([(0, 0), (5_000, 50), (10_000, 20), (15_000, 70), (15_000, 70)], 0, now=15.0)
    assert pace.steps_per_second == pytest.approx(10.0)


def test_adopted_studies_are_no_sweeps(store: Store) -> None:
    experiment = store.experiment("legacy-up-down")
    for outcome in ("adopted", None):
        log = RunLog.start(store, experiment_id=experiment, kind="sweep", name="old study", params={}, tags={})
        if outcome:
            log.finish("adopted")
    assert watching.sweeps(store, None, 5) == ([], [])
    assert "old study" not in shown(store)


def test_finished_sweeps_take_one_line_each_and_only_the_last_few_are_shown(store: Store) -> None:
    for number in range(status.FINISHED_SHOWN + 1):
        parent = sweep(store, name=f"{number}K-h1", planned=1)
        complete(parent, 0, 0.4)
        parent.finish("complete")
    text = shown(store)
    assert "0K-h1" not in text
    assert "5K-h1 on sp500-threshold-1pct: complete, 1 of 1 trials, best 0000 d4 L4 h1 ff2 val_loss 0.4000, 0 s ago" in text
    assert "no sweep is running" in text


def test_without_a_sweep_it_says_what_to_type(store: Store, tmp_path: Path) -> None:
    assert f"no sweep is running; start one with `make sweep BUDGET=3K STORE={store.root}`." in shown(store)
    with pytest.raises(InputError, match="start with `make sweep`"):
        status.main(StatusOptions(store=tmp_path / "nothing"))


def test_only_the_experiment_asked_for_is_shown(store: Store) -> None:
    sweep(store)
    assert watching.sweeps(store, "another", 5) == ([], [])
    assert len(watching.sweeps(store, EXPERIMENT, 5)[0]) == 1


def test_an_interval_that_means_nothing_is_refused(store_root: Path) -> None:
    with pytest.raises(InputError, match=r"WATCH=0\.1: give 1 second or more"):
        status.main(StatusOptions(store=store_root, watch=0.1))


def test_watching_draws_again_until_it_is_stopped(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    waited: list[float] = []
    screen = Console(file=io.StringIO(), force_terminal=True, width=140)
    monkeypatch.setattr("research.cli.console.console", lambda: screen)

    def wait(seconds: float) -> None:
        waited.append(seconds)
        if len(waited) == 2:
            sweep(store)
        if len(waited) == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(time, "sleep", wait)
    status.main(StatusOptions(store=store.root, watch=2.0))
    assert waited == [2.0, 2.0, 2.0]
    text = screen.file.getvalue()
    assert text.count("no sweep is running") == 2
    assert "0 of 6 trials done" in text


@pytest.mark.parametrize(
    ("free", "total", "low"), [(6e9, 100e9, False), (4.9e9, 50e9, True), (40e9, 1000e9, True), (60e9, 1000e9, False)]
)
def test_a_disk_that_is_nearly_full_is_warned_of(free: float, total: float, low: bool) -> None:
    line = status.disk_line(Disk(free=int(free), total=int(total), checkpoints=2_500_000))
    assert ("warning" in line) == low
    assert "checkpoints take 2.5 MB" in line


def test_the_disk_is_that_of_the_store_and_checkpoints_are_counted(tmp_path: Path) -> None:
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "one.safetensors").write_bytes(bytes(3_000_000))
    found = disk_under(tmp_path)
    assert found.checkpoints >= 3_000_000
    assert 0 < found.free < found.total
    assert disk_under(tmp_path / "not" / "there").total == found.total


def test_it_starts_without_the_heavy_packages(store: Store) -> None:
    child(sweep(store), 0)
    code = (
        "import sys, pathlib; from analysis import status; from analysis.options import StatusOptions; "
        f"status.main(StatusOptions(store=pathlib.Path({str(store.root)!r}))); "
        "print([name for name in ('torch', 'optuna', 'mlflow', 'pandas') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert "0 of 6 trials done, 1 running" in done.stdout
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.slow
def test_a_sweep_is_watched_while_it_runs_and_its_trials_log_the_machine(store_root: Path) -> None:
    flags = ["--budget", "2K", "--trials", "2", "--epochs", "40", "--patience", "40", "--workers", "1", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, "-m", "tapescale", "sweep", *flags, "--store", str(store_root)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, "MLFLOW_SYSTEM_METRICS_SAMPLING_INTERVAL": "1"},
    )
    store = open_store(store_root)
    try:
        begun = wait_for(store, lambda state: any(one.pace.step for one in state.trainings))
        assert (begun.owner.process.pid, begun.owner.is_gone, begun.running) == (process.pid, False, 1)
        assert begun.done + begun.running + begun.left == begun.planned == 2
        wait_for(store, lambda _: "system/cpu_utilization_percentage" in known_of_first_trial(store))
        # Read or said to be unknown, never just missing.
        assert known_of_first_trial(store) & {"system/cpu_temperature_celsius", schema.TEMPERATURE}
    finally:
        process.terminate()
        _, errors = process.communicate(timeout=60)
    assert "mlflow" not in errors
    _, (ended,) = watching.sweeps(store, None, 5)
    assert ended.outcome in ("interrupted", "complete")


def wait_for(store: Store, holds: Callable[[SweepState], bool]) -> SweepState:
    give_up_at = time.monotonic() + 60
    while time.monotonic() < give_up_at:
        running, _ = watching.sweeps(store, None, 5)
        if running and holds(running[0]):
            return running[0]
        time.sleep(0.25)
    raise AssertionError("the sweep did not get there within a minute")


def known_of_first_trial(store: Store) -> set[str]:
    """Names of its metrics and tags."""
    first = query.runs_of_kind(store, list(query.experiments(store)), ("trial",))[0]
    return {*first.metrics, *first.tags}


def test_an_owner_is_read_from_the_tag_that_a_driver_writes() -> None:
    me = ProcessId.mine()
    owner = DriverClaim.read(me.text(token="t", seen=5.0))
    assert (owner.process, owner.seen, json.loads(me.text())["pid"]) == (me, 5.0, os.getpid())
