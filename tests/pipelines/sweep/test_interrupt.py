from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.sweep.driver import run_sweep
from research.tracking.store import open_store


def test_ctrl_c_leaves_a_store_that_the_next_command_can_use(store_root: Path) -> None:
    flags = ["--budget", "2K", "--trials", "50", "--epochs", "5", "--device", "cpu", "--store", str(store_root)]
    process = subprocess.Popen(
        [sys.executable, "-m", "tapescale", "sweep", *flags], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    store = open_store(store_root)
    _wait_for_a_trial(store_root)
    os.kill(process.pid, signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "Traceback" not in errors

    experiment = store.client.get_experiment_by_name("sp500-threshold-1pct").experiment_id
    runs = store.client.search_runs([experiment])
    assert not [run for run in runs if run.info.status == "RUNNING"]
    (parent,) = [run for run in runs if run.data.tags["run_kind"] == "sweep"]
    assert (parent.data.tags["outcome"], parent.info.status) == ("interrupted", "KILLED")
    assert {run.data.tags["outcome"] for run in runs} <= {"complete", "interrupted"}

    after = run_sweep(
        SweepOptions(budget="2K", trials=1, epochs=1, device="cpu", workers=1, threads=1, store=store_root), Console(quiet=True)
    )
    assert after.best is not None


def _wait_for_a_trial(root: Path) -> None:
    store = open_store(root)
    for _ in range(240):
        found = store.client.get_experiment_by_name("sp500-threshold-1pct")
        if found and store.client.search_runs([found.experiment_id], "tags.run_kind = 'trial'"):
            return
        time.sleep(0.25)
    raise AssertionError("no trial started within a minute")
