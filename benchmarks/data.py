"""Cost of the path from bars to batches: features, the synthetic market, a snapshot, windows."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from itertools import count
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from benchmarks.feature_build_time import build_milliseconds
from benchmarks.harness import Measurement, cpu_in_turn, in_turn, timed
from research.data.bundled import bundled
from research.data.garch import SP500
from research.data.snapshots import load_snapshot, write_snapshot
from research.data.synthetic import Market, market_bars
from research.task.build import assemble
from research.task.options import TaskOptions
from research.task.windows import WindowDataset

TIMES = 7
EPOCHS = 41
"""Number of epochs. Each takes hundredths of a second, so few of them would be dominated by load on the machine."""
DAYS = 10_000
MOST_FEATURE_SECONDS = 1.0
BARS, ARCH_DAYS = 1_000_000, 50_000
MOST_MARKET_SECONDS = 1.0
MOST_OF_WRITING = 1 / 3
BATCH = 256
MOST_OF_LOADER = 1 / 30

Batch = tuple[Tensor, Tensor]


def data(folder: Path) -> list[Measurement]:
    """Measure the steps of every sweep before and during training."""
    return [features(), market(), snapshot(folder), *windows()]


def features() -> Measurement:
    """Measure all 100 columns, including those of index and volatility index, compared with the 25 of the reference set."""
    wide, usual = in_turn([partial(_feature_seconds, name) for name in ("s100", "a25s")], TIMES)
    return Measurement(
        name=f"features s100 of {DAYS:,} days / a25s", seconds=wide, reference=usual, most_seconds=MOST_FEATURE_SECONDS
    )


def market() -> Measurement:
    """Measure whole bars, compared with returns that `arch` simulates of the same law in a loop, scaled to equal days."""
    whole, returns = in_turn(
        [partial(timed, lambda: market_bars(Market(bars=BARS))), partial(timed, lambda: arch_days(ARCH_DAYS))], TIMES
    )
    return Measurement(
        name=f"{BARS:,} synthetic bars / as many returns from arch",
        seconds=whole,
        reference=returns * BARS / ARCH_DAYS,
        most_seconds=MOST_MARKET_SECONDS,
    )


def arch_days(days: int) -> pd.DataFrame:
    """Simulate days of our law with `arch`; return columns `data` and `volatility`."""
    # arch loads statsmodels, which takes two seconds.
    from arch.univariate import GARCH, Normal, ZeroMean

    model = ZeroMean(volatility=GARCH(p=1, o=1, q=1), distribution=Normal(seed=0))
    return model.simulate([SP500.omega, SP500.alpha, SP500.gamma, SP500.beta], days)


def snapshot(folder: Path) -> Measurement:
    """Measure the load of a stored snapshot, compared with its first import."""
    delivered, numbers = bundled(), count()
    known = write_snapshot(delivered, folder / "known").digest
    loading = partial(timed, lambda: load_snapshot(known, folder / "known"))
    writing = partial(timed, lambda: write_snapshot(delivered, folder / f"{next(numbers)}"))
    loaded, written = in_turn([loading, writing], TIMES)
    return Measurement(
        name="loading a known snapshot / validating and writing it",
        seconds=loaded,
        reference=written,
        most_ratio=MOST_OF_WRITING,
    )


def windows() -> list[Measurement]:
    """Measure batches gathered from two instruments, compared with a loader that slices and stacks each window.

    And beside what no gather can beat: as many bytes moved from one place to another.
    """
    pool = assemble(TaskOptions(symbols=("all",)), bundled().bars, digest="", source="bundled").prepared
    stacked = pool.dataset(torch.device("cpu"))
    rows = np.random.default_rng(0).permutation(pool.split.train)
    batch = stacked.gather(stacked.rows(rows[:BATCH]))[0]
    copied = torch.empty_like(batch)
    works: list[Callable[[], object]] = [partial(_use_up, way, stacked, rows) for way in (gathered_batches, sliced_batches)]
    works.append(lambda: [copied.copy_(batch) for _ in range(len(rows) // BATCH)])
    gathered, sliced, moved = cpu_in_turn(works, EPOCHS)
    name = f"{len(rows):,} windows"
    return [
        Measurement(
            name=f"{name} gathered / sliced by a torch DataLoader",
            seconds=gathered,
            reference=sliced,
            most_ratio=MOST_OF_LOADER,
        ),
        Measurement(
            name=f"{name}, their bytes copied in one piece / sliced by a torch DataLoader", seconds=moved, reference=sliced
        ),
    ]


def gathered_batches(stacked: WindowDataset, rows: np.ndarray) -> Iterator[Batch]:
    """Yield batches as training does."""
    return (stacked.gather(rows_B) for rows_B in torch.split(stacked.rows(rows), BATCH))


def sliced_batches(stacked: WindowDataset, rows: np.ndarray) -> Iterator[Batch]:
    """Return the same batches from torch's DataLoader."""
    yield from DataLoader(_Slices(stacked), batch_size=BATCH, sampler=rows.tolist())


class _Slices(Dataset[Batch]):
    def __init__(self, stacked: WindowDataset):
        self.stacked = stacked

    def __getitem__(self, row: int) -> Batch:
        return self.stacked.values_RF[row - self.stacked.context_length + 1 : row + 1], self.stacked.labels_R[row]


def _use_up(batches: Callable[[WindowDataset, np.ndarray], Iterator[Batch]], stacked: WindowDataset, rows: np.ndarray) -> None:
    for _ in batches(stacked, rows):
        pass


def _feature_seconds(name: str) -> float:
    return build_milliseconds(name, rows=DAYS, repeats=1) / 1000
