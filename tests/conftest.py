"""Shared fixtures: real bundled bars, a prepared study, and stores that cost nothing to create."""

from __future__ import annotations

import os
import shutil
from datetime import date
from pathlib import Path
from typing import TYPE_CHECKING

os.environ["MLFLOW_TRACKING_URI"] = ""
# What `make test` was told is not for the `make` that a test runs.
os.environ.pop("MAKEFLAGS", None)
os.environ.pop("MAKELEVEL", None)
# OpenMP reads it when torch loads: spinning threads take half the speed of whatever else runs.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

import numpy as np
import pandas as pd
import pytest
import torch
from rich.console import Console

from research.data.bundled import bundled
from research.features.feature_sets import A25S, build
from research.runtime import DEFAULT_THREADS
from research.spec import SplitSpec, TargetSpec
from research.task.splits import holdout
from research.task.targets import label
from research.task.windows import InstrumentData, WindowedData, stack_windows

if TYPE_CHECKING:
    from pipelines.options import SweepOptions
    from pipelines.sweep.state import Sweep

# After `research.runtime` has read the default: on shared cores one thread is faster for the tests' small nets.
torch.set_num_threads(min(1, DEFAULT_THREADS))

SPLIT = SplitSpec(train_end=date(2011, 12, 31), validation_end=date(2015, 6, 30), test_end=date(2018, 12, 31))


@pytest.fixture(scope="session")
def bundled_bars() -> dict[str, pd.DataFrame]:
    """Real bars of both bundled instruments."""
    return bundled().bars


@pytest.fixture(scope="session")
def sp500(bundled_bars: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Real bars of the S&P 500."""
    return bundled_bars["^GSPC"]


@pytest.fixture(scope="session")
def prepared(sp500: pd.DataFrame) -> WindowedData:
    """The default study at horizon 1: a25s, 1% high touch, default split, context 60."""
    return prepare_study(sp500, horizon=1)


def prepare_study(bars: pd.DataFrame, horizon: int, context_length: int = 60) -> WindowedData:
    """The default study at any horizon and context."""
    matrix = build(A25S, bars)
    target = label(bars, TargetSpec(horizon=horizon))
    split = holdout(target, SPLIT, matrix.first_row, context_length)
    return stack_windows([InstrumentData(symbol="^GSPC", matrix=matrix, target=target, split=split)], context_length)


def random_bars(seed: int, days: int, start: str = "2001-01-02", volatility: float = 0.01) -> pd.DataFrame:
    """A valid random walk of daily bars on business days, holidays included at random."""
    rng = np.random.default_rng(seed)
    index = pd.bdate_range(start, periods=int(days * 1.1) + 10, name="date")
    index = index[np.sort(rng.choice(len(index), days, replace=False))]
    close = 100 * np.exp(np.cumsum(rng.normal(0, volatility, days)))
    open_ = close * np.exp(rng.normal(0, volatility / 2, days))
    spread = np.exp(np.abs(rng.normal(0, volatility / 2, (2, days))))
    high, low = np.maximum(open_, close) * spread[0], np.minimum(open_, close) / spread[1]
    volume = rng.integers(1_000, 1_000_000, days).astype(np.float64)
    return pd.DataFrame({"open": open_, "high": high, "low": low, "close": close, "volume": volume}, index=index)


@pytest.fixture(scope="session")
def migrated_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a freshly migrated store; creating one takes ten seconds, so tests copy it."""
    from research.tracking.store import open_store

    root = tmp_path_factory.mktemp("migrated")
    open_store(root)
    return root


@pytest.fixture
def store_root(migrated_store: Path, tmp_path: Path) -> Path:
    """An empty store of the test's own."""
    root = tmp_path / "mlruns"
    shutil.copytree(migrated_store, root)
    return root


def start_sweep(options: SweepOptions) -> Sweep:
    """A sweep with its parent run, ready for its first trial."""
    from pipelines.sweep.driver import open_sweep
    from pipelines.sweep.setup import prepare

    return open_sweep(options, prepare(options, Console(quiet=True)))
