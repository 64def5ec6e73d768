"""One driver at a time: a living one is named and left alone, a dead one is taken over, wherever it ran."""

from __future__ import annotations

import json
import os
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast
from unittest.mock import MagicMock

import psutil
import pytest

import pipelines.sweep.driver
from pipelines.sweep.driver_lock import DriverLease, TakenOverError, only_driver, refuse_if_driven
from pipelines.sweep.history import DRIVER_DIED
from pipelines.sweep.search_space import first_suggestions
from pipelines.sweep.state import Sweep
from pipelines.trial.job import Job
from research.errors import InputError
from research.tracking import schema
from research.tracking.process_identity import STALE_SECONDS, ProcessId
from research.tracking.run_writer import RunClosedError, RunLog
from research.training.trial_state import EpochRecord
from tests.conftest import start_sweep
from tests.support.small_sweeps import at_every_epoch, children_of, copy_of, options, run, tried

ELSEWHERE = ProcessId(host="far-away", pid=4711, started=1_000_000.0)


def claimed_by(process: ProcessId, silent: float = 0.0) -> dict[str, str]:
    return {schema.OWNER: process.text(token="theirs", seen=time.time() - silent)}


def a_living_process() -> ProcessId:
    parent = psutil.Process(os.getppid())
    return ProcessId(host=socket.gethostname(), pid=parent.pid, started=parent.create_time())


def test_a_living_driver_is_named() -> None:
    with pytest.raises(InputError, match="running already, as process 4711 on far-away, last heard of 7 s ago"):
        refuse_if_driven(claimed_by(ELSEWHERE, silent=7), "RUNNING")
    with pytest.raises(InputError, match=f"process {os.getppid()} on"):
        refuse_if_driven(claimed_by(a_living_process(), silent=10 * STALE_SECONDS), "RUNNING")


def test_a_dead_driver_is_not_waited_for() -> None:
    here = a_living_process()
    successor = ProcessId(host=here.host, pid=here.pid, started=here.started - 1000)
    refuse_if_driven(claimed_by(successor), "RUNNING")
    refuse_if_driven(claimed_by(ELSEWHERE, silent=2 * STALE_SECONDS), "RUNNING")
    refuse_if_driven(claimed_by(ELSEWHERE), "FINISHED")
    refuse_if_driven({}, "RUNNING")


def test_a_sweep_that_is_alive_on_another_host_is_refused_and_left_as_it_is(store_root: Path) -> None:
    sweep = start_sweep(options(store_root))
    tags = claimed_by(ELSEWHERE)
    sweep.log.tag(schema.OWNER, tags[schema.OWNER])
    with pytest.raises(InputError, match="process 4711 on far-away"):
        run(store_root)
    found, status = sweep.log.tags_and_status()
    assert (found[schema.OWNER], status) == (tags[schema.OWNER], "RUNNING")
    assert schema.OUTCOME not in found


def test_a_sweep_that_fell_silent_on_another_host_is_taken_over(store_root: Path) -> None:
    sweep = start_sweep(options(store_root))
    sweep.log.tag(schema.OWNER, claimed_by(ELSEWHERE, silent=2 * STALE_SECONDS)[schema.OWNER])
    first = first_suggestions(sweep.architectures, sweep.space)[0]
    left = RunLog.start(
        sweep.context.store,
        experiment_id=sweep.context.experiment_id,
        kind="trial",
        name="0000",
        params={"number": 0, "seed": 0},
        tags={schema.SUGGESTED: json.dumps(first), schema.WORKER: ELSEWHERE.text(), schema.TRIAL_FINGERPRINT: "unknown"},
        parent_id=sweep.log.run_id,
    )
    ended = run(store_root)
    assert ended.log.run_id == sweep.log.run_id
    theirs, mine = tried(ended, 0)
    assert (theirs.run_id, theirs.outcome, theirs.tags[schema.REASON]) == (left.run_id, "interrupted", DRIVER_DIED)
    assert (mine.outcome, mine.tags[schema.ATTEMPT]) == ("complete", "2")
    owner = ProcessId.read(ended.log.tags()[schema.OWNER])
    assert owner == ProcessId.mine()


@pytest.fixture(scope="module")
def sweep(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    return start_sweep(options(copy_of(migrated_store, tmp_path_factory.mktemp("lease"))))


def until(holds: Callable[[], bool]) -> None:
    give_up_at = time.monotonic() + 20
    while not holds():
        assert time.monotonic() < give_up_at
        time.sleep(0.02)


def owner_of(sweep: Sweep) -> dict[str, object]:
    return dict(json.loads(sweep.log.tags()[schema.OWNER]))


def test_a_lease_is_renewed_until_it_is_left(sweep: Sweep) -> None:
    with DriverLease(sweep.log, heartbeat_seconds=0.02):
        first = owner_of(sweep)
        until(lambda: owner_of(sweep) != first)
        later = owner_of(sweep)
        assert later == {**first, "seen": later["seen"]}
        assert first["pid"] == os.getpid()
    assert not [one for one in threading.enumerate() if one.name == "heartbeat"]


def taken(lease: DriverLease) -> bool:
    try:
        lease.check()
    except TakenOverError as problem:
        assert "taken over by process 4711 on far-away" in str(problem)  # noqa: PT017
        return True
    return False


def test_a_driver_notices_that_it_was_taken_over_and_does_not_claim_back(sweep: Sweep) -> None:
    with DriverLease(sweep.log, heartbeat_seconds=0.02) as lease:
        assert not taken(lease)
        sweep.log.tag(schema.OWNER, claimed_by(ELSEWHERE)[schema.OWNER])
        until(lambda: taken(lease))
    assert owner_of(sweep)["token"] == "theirs"


def test_leaving_does_not_wait_for_a_store_that_is_away() -> None:
    asked, back = threading.Event(), threading.Event()

    class Away:
        store = MagicMock(is_local=True)

        def tag(self, *_: str) -> None:
            pass

        def tags(self) -> dict[str, str]:
            asked.set()
            assert back.wait(30)
            return {}

    with DriverLease(cast(RunLog, Away()), heartbeat_seconds=0.01) as lease:
        assert asked.wait(30)
    assert lease._thread.is_alive()
    back.set()
    lease._thread.join(30)


def new_driver(sweep: Sweep) -> RunLog:
    """Another host takes the sweep over and trains a trial."""
    sweep.log.tag(schema.OWNER, claimed_by(ELSEWHERE)[schema.OWNER])
    return RunLog.start(
        sweep.context.store,
        experiment_id=sweep.context.experiment_id,
        kind="trial",
        name="0000",
        params={},
        tags={},
        parent_id=sweep.log.run_id,
    )


def require_left_to_its_new_driver(sweep: Sweep, theirs: RunLog) -> None:
    tags, status = sweep.log.tags_and_status()
    assert (status, json.loads(tags[schema.OWNER])["token"]) == ("RUNNING", "theirs")
    assert schema.OUTCOME not in tags
    assert theirs.tags_and_status()[1] == "RUNNING"


def test_ctrl_c_after_a_take_over_closes_nothing_of_the_new_driver(store_root: Path) -> None:
    sweep, theirs = start_sweep(options(store_root)), []

    def take_over(job: Job, record: EpochRecord) -> None:
        theirs.append(new_driver(sweep))
        raise KeyboardInterrupt

    with at_every_epoch(take_over), pytest.raises(KeyboardInterrupt):
        run(store_root)
    require_left_to_its_new_driver(sweep, theirs[0])


def test_a_driver_whose_run_was_closed_by_another_stops_with_a_sentence(store_root: Path) -> None:
    sweep, theirs = start_sweep(options(store_root)), []

    def take_over(job: Job, record: EpochRecord) -> None:
        RunLog(sweep.context.store, tried(sweep, 0)[0].run_id).finish("interrupted", tags={schema.REASON: DRIVER_DIED})
        theirs.append(new_driver(sweep))

    with at_every_epoch(take_over), pytest.raises(RunClosedError, match="closed by another driver"):
        run(store_root)
    require_left_to_its_new_driver(sweep, theirs[0])
    (mine,) = tried(sweep, 0)
    assert (mine.outcome, mine.status) == ("interrupted", "KILLED")
    assert "val_loss" not in mine.metrics


def test_a_driver_that_wakes_up_after_its_last_trial_closes_nothing_of_the_new_driver(
    store_root: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep, theirs, real = start_sweep(options(store_root)), [], pipelines.sweep.driver._run

    def then_sleep(*arguments: Any) -> None:
        real(*arguments)
        theirs.append(new_driver(sweep))

    monkeypatch.setattr(pipelines.sweep.driver, "_run", then_sleep)
    with pytest.raises(TakenOverError):
        run(store_root)
    require_left_to_its_new_driver(sweep, theirs[0])


def test_ctrl_c_while_a_run_is_being_created_leaves_none_open(store_root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    sweep = start_sweep(options(store_root))
    run(store_root)
    monkeypatch.setattr("research.tracking.run_writer._dataset_input", interrupted)
    with pytest.raises(KeyboardInterrupt):
        run(store_root, trials=2)
    assert {one.status for one in children_of(sweep)} == {"FINISHED", "KILLED"}
    assert sweep.log.tags_and_status()[1] == "KILLED"


def test_workers_that_cannot_be_closed_do_not_hide_what_stopped_the_sweep() -> None:
    executor = MagicMock()
    executor.close.side_effect = RuntimeError("the cluster is gone")
    with pytest.raises(KeyboardInterrupt), pipelines.sweep.driver._closed_after(executor):
        raise KeyboardInterrupt
    with pytest.raises(RuntimeError), pipelines.sweep.driver._closed_after(executor):
        pass


def test_a_lock_whose_holder_has_not_yet_signed_is_respected(store_root: Path, sweep: Sweep) -> None:
    store = sweep.context.store
    with only_driver(store, "f00"):
        (store.root / "locks" / "f00.owner").unlink()
        with pytest.raises(InputError, match="running already, as another process"), only_driver(store, "f00"):
            pass
