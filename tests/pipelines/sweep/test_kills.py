"""kill -9 of the driver or a worker at random moments: no trial lost, none twice, statuses true, one epoch repeated at most."""

from __future__ import annotations

import itertools
import shutil
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

import pytest
from rich.console import Console

from pipelines.options import SweepOptions
from pipelines.sweep.driver import run_sweep
from pipelines.sweep.history import DEATHS
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store, open_store
from tests.support.verbs import ROOT

EXPERIMENT = "sp500-threshold-1pct"
KILLING = "tests.pipelines.sweep.killing"


def survive(root: Path, *, kills: int, seed: int, workers: int, trials: int, epochs: int) -> int:
    """Run the sweep under fire; the number of kills it took before its end."""
    numbers = [str(number) for number in (kills, seed, workers, trials, epochs)]
    done = subprocess.run([sys.executable, "-m", KILLING, str(root), *numbers], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-3000:]
    return int(done.stdout)


def children_of(root: Path) -> tuple[Store, RunRecord, list[RunRecord]]:
    store = open_store(root)
    found = store.client.get_experiment_by_name(EXPERIMENT)
    assert found is not None
    (parent,) = query.runs_with_tag(store, found.experiment_id, schema.KIND, "sweep", kinds=("sweep",))
    return store, parent, query.children(store, found.experiment_id, parent.run_id)


def require_true_record(root: Path, trials: int) -> dict[int, RunRecord]:
    """The invariants that hold after any kills; the complete trials by number."""
    store, parent, runs = children_of(root)
    assert (parent.status, parent.outcome) == ("FINISHED", "complete")
    for run in runs:
        assert run.outcome is not None, f"{run.name} has no outcome"
        assert run.status == schema.STATUS_OF_OUTCOME[run.outcome]
    tried = [run for run in runs if run.kind == "trial" and "number" in run.params]
    complete = [run for run in tried if run.outcome == "complete"]
    assert sorted(int(run.params["number"]) for run in complete) == list(range(trials))
    died = [run for run in tried if run.outcome != "complete"]
    assert {run.outcome for run in died} <= {"interrupted"}
    assert all(run.tags[schema.REASON].startswith(DEATHS) for run in died)
    require_at_most_one_epoch_repeated(store, tried)
    baselines = [run.params["baseline"] for run in runs if run.kind == "baseline" and run.outcome == "complete"]
    assert len(baselines) == len(set(baselines)) == 4
    return {int(run.params["number"]): run for run in complete}


def require_at_most_one_epoch_repeated(store: Store, tried: list[RunRecord]) -> None:
    """Each attempt goes on from the last epoch that the one before had told about, or a later one."""
    curves = query.histories(store, [run.run_id for run in tried], f"{schema.EPOCH_PREFIX}val_loss")
    by_number: dict[int, list[RunRecord]] = defaultdict(list)
    for run in tried:
        by_number[int(run.params["number"])].append(run)
    for runs in by_number.values():
        for before, after in itertools.pairwise(runs):
            told = max(curves.get(before.run_id, {}), default=0)
            assert int(after.tags[schema.FROM_EPOCH]) >= max(told, int(before.tags[schema.FROM_EPOCH]))


def require_same_table(root: Path, reference: Path, trials: int) -> None:
    """Every trial has the parameters and, to the bit, the loss that it has without kills."""
    found, wanted = require_true_record(root, trials), require_true_record(reference, trials)
    for number in range(trials):
        assert found[number].params == wanted[number].params
        assert found[number].metrics["val_loss"] == wanted[number].metrics["val_loss"]
        assert found[number].tags[schema.SUGGESTED] == wanted[number].tags[schema.SUGGESTED]


def uninterrupted(root: Path, trials: int, epochs: int) -> Path:
    options = SweepOptions(budget="2K", trials=trials, epochs=epochs, device="cpu", threads=1, workers=1, store=root)
    run_sweep(options, Console(quiet=True))
    return root


def copies(migrated_store: Path, tmp_path: Path) -> tuple[Path, Path]:
    roots = tmp_path / "killed", tmp_path / "whole"
    for root in roots:
        shutil.copytree(migrated_store, root)
    return roots


@pytest.mark.slow
def test_thirty_kills_change_nothing(migrated_store: Path, tmp_path: Path) -> None:
    killed, whole = copies(migrated_store, tmp_path)
    assert survive(killed, kills=30, seed=2, workers=1, trials=8, epochs=8) == 30
    require_same_table(killed, uninterrupted(whole, trials=8, epochs=8), trials=8)


@pytest.mark.slow
def test_kills_of_workers_and_drivers_lose_and_repeat_nothing(migrated_store: Path, tmp_path: Path) -> None:
    killed, _ = copies(migrated_store, tmp_path)
    assert survive(killed, kills=8, seed=3, workers=2, trials=10, epochs=8) > 3
    require_true_record(killed, trials=10)


@pytest.mark.long
def test_three_hundred_kills_change_nothing(migrated_store: Path, tmp_path: Path) -> None:
    killed, whole = copies(migrated_store, tmp_path)
    assert survive(killed, kills=300, seed=4, workers=1, trials=60, epochs=20) > 200
    require_same_table(killed, uninterrupted(whole, trials=60, epochs=20), trials=60)
