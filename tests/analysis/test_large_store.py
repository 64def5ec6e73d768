"""Ten thousand runs are read and understood in seconds."""

from __future__ import annotations

import random
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from analysis.results.architecture import effects
from analysis.results.frontier import frontiers
from analysis.results.horizon_transfer import transfers
from analysis.results.uncertainty import loss_uncertainties
from benchmarks.clone_runs import Copy, add_copies
from research.tracking.store import Store, open_store
from tests.support.small_store import add_run

COPIES = 2500
MOST_SECONDS = 60.0
"""It takes 10 on a quiet core; the rest is for a busy one."""


@pytest.fixture
def store(store_root: Path) -> Store:
    """Two budgets at two horizons, 2,500 trials each."""
    store = open_store(store_root)
    numbers = random.Random(0)
    for horizon in (1, 3):
        for budget in ("2K", "20K"):
            run_id = add_run(store, "0000 d4 L2 h1 ff2", loss=0.5, budget=budget, horizon=horizon, by="random")
            add_copies(store.database, run_id, copies(numbers, f"{budget} {horizon}"))
        add_run(store, "prior", kind="baseline", loss=0.69, horizon=horizon)
    return store


def copies(numbers: random.Random, title: str) -> Iterator[Copy]:
    for number in range(1, COPIES):
        layers, width = numbers.choice([(1, 32), (2, 24), (4, 16), (8, 12), (16, 8)])
        params = {"n_layers": layers, "d_model": width, "learning_rate": 10 ** numbers.uniform(-4, -2)}
        yield Copy(
            name=f"{number:04d} d{width} L{layers} h1 ff2",
            params={name: repr(value) for name, value in params.items()},
            tags={"trial_fingerprint": f"{title} {number}", "config_fingerprint": f"{title} {number}"},
            metrics={"val_loss": 0.5 + abs(layers - 4) / 100 + abs(numbers.gauss(0, 0.02))},
        )


@pytest.mark.slow
def test_ten_thousand_runs_take_seconds_and_few_files(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    opened: list[str] = []
    real = Store.local_artifact

    def counted(self: Store, run_id: str, path: str) -> Path:
        opened.append(path)
        return real(self, run_id, path)

    monkeypatch.setattr(Store, "local_artifact", counted)
    began = time.perf_counter()
    found = frontiers(store, None)
    layers = [loss_uncertainties(one) for one in found]
    told = effects(found)
    rows = transfers(store, found)
    seconds = time.perf_counter() - began
    assert sum(len(one.trials) for one in found) == 4 * COPIES
    assert all(each.random_trials == COPIES for one in layers for each in one)
    assert all(one.best_is_known("2K") for one in told)
    assert len(rows) == 4
    # Four finalists, two baselines, and two runs for each of the four transfers.
    assert len(opened) <= 4 + 2 + 8
    assert seconds < MOST_SECONDS
