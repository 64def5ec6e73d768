"""Shared parts of the benchmarks: measurements and targets, timers, a sample trial, and a search without training."""

from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import optuna

PARAMS: dict[str, str | int | float | bool] = {f"param_{n:02d}": n / 7 for n in range(25)}
"""Parameters of the sample trial that every tracking benchmark writes."""
TAGS = {f"tag_{n:02d}": f"value {n}" for n in range(12)}
EPOCHS = 100
CURVES = ("epoch/train_loss", "epoch/val_loss", "epoch/learning_rate", "epoch/seconds")
ARTIFACTS = ("spec.json", "curve.csv", "environment.json")


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """A measured time and its target. Ratios of one run can be compared between machines, seconds cannot."""

    name: str
    seconds: float
    reference: float | None = None
    """Seconds of the reference, measured on the same machine immediately before or after."""
    most_ratio: float | None = None
    """Upper limit of the ratio."""
    most_seconds: float | None = None
    """Upper limit of the seconds."""

    @property
    def ratio(self) -> float | None:
        """Return the seconds divided by those of the reference."""
        return None if self.reference is None else self.seconds / self.reference

    @property
    def met(self) -> bool | None:
        """Return whether the target is met; None for a row without a target, which is there for comparison only."""
        if self.most_ratio is not None:
            assert self.ratio is not None
            return self.ratio <= self.most_ratio
        return None if self.most_seconds is None else self.seconds <= self.most_seconds


def timed(work: Callable[[], object]) -> float:
    """Return the wall time of `work` in seconds."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def typical(work: Callable[[int], object], times: int) -> float:
    """Return the median seconds of work(1), work(2) .. work(times), after work(0) as a warm-up."""
    return median([timed(partial(work, number)) for number in range(times + 1)][1:])


def in_turn(measures: Sequence[Callable[[], float]], times: int) -> list[float]:
    """Return the median of each measurement over interleaved rounds; the first round warms up and is not counted.

    Interleaving makes other load on the machine affect all measurements alike.
    """
    rounds = [[measure() for measure in measures] for _ in range(times + 1)]
    return [median(values) for values in zip(*rounds[1:], strict=True)]


@contextmanager
def one_thread() -> Iterator[None]:
    """Restrict torch to the calling thread, backward passes on the CPU included."""
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def cpu_seconds(work: Callable[[], object]) -> float:
    """Return the processor time of `work` in this thread; it excludes other threads and most other load."""
    began = time.thread_time()
    work()
    return time.thread_time() - began


def cpu_in_turn(works: Sequence[Callable[[], object]], rounds: int) -> list[float]:
    """Return the median processor seconds of each work on one thread, in interleaved rounds as in `in_turn`."""
    with one_thread():
        return in_turn([partial(cpu_seconds, work) for work in works], rounds)


def cells(row: Measurement) -> tuple[str, ...]:
    """Return a measurement as the texts of a table row."""

    def text(value: float) -> str:
        return f"{value:.3f}" if value >= 0.1 else f"{value:.3g}"

    target = "" if row.most_ratio is None else f"{row.most_ratio:.3f}"
    return (
        row.name,
        text(row.seconds),
        "" if row.reference is None else text(row.reference),
        "" if row.ratio is None else f"{row.ratio:.3f}",
        target if row.most_seconds is None else f"{row.most_seconds:g} s",
        {True: "yes", False: "no", None: ""}[row.met],
    )


def curve_value(name: str, epoch: int) -> float:
    """Return a number that differs from epoch to epoch."""
    return (len(name) + epoch) / 97


def write_artifacts(folder: Path) -> None:
    """Write the three small files of the sample trial."""
    for name in ARTIFACTS:
        (folder / name).write_text("0.123456789\n" * 100)


def sampler() -> optuna.samplers.BaseSampler:
    """Return the sampler of a sweep."""
    import optuna

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
        return optuna.samplers.TPESampler(seed=0, multivariate=True, group=True, constant_liar=True)


def suggest(trial: optuna.Trial) -> dict[str, Any]:
    """Suggest eight parameters, as a sweep does."""
    trial.suggest_categorical("shape", [f"d{width} L{depth}" for width in (4, 8, 16) for depth in (1, 2, 4, 8)])
    trial.suggest_categorical("n_heads", [1, 2, 4])
    trial.suggest_categorical("ff_ratio", [2, 4])
    trial.suggest_float("learning_rate", 1e-4, 1e-2, log=True)
    trial.suggest_float("weight_decay", 1e-5, 1e-1, log=True)
    trial.suggest_float("dropout", 0.0, 0.5)
    trial.suggest_int("warmup_steps", 0, 200)
    trial.suggest_categorical("batch_size", [32, 64, 128])
    return dict(trial.params)


def objective(suggested: dict[str, Any]) -> float:
    """Return a number that depends on the suggestion, without any training."""
    return float(suggested["dropout"] + abs(suggested["learning_rate"] - 1e-3))
