"""Options that define a task: data, features, target and split."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from typing import Literal

from research.spec import TargetKind, TargetSpec, TrialSpec


@dataclass(frozen=True, kw_only=True)
class TaskOptions:
    """Data, features, target and split of a task."""

    data: str = "bundled"
    """Source of the bars: `bundled` (S&P 500 and Nasdaq, 1999-2018), `synthetic:bars=20000,signal=0.3,lag=20`, a CSV or
    Parquet file, the name of a data set that `make data` brought in, or a snapshot's digest."""
    symbol: str = ""
    """Instrument inside the data; ^GSPC or the only one if not given."""
    symbols: tuple[str, ...] = ()
    """Several instruments, trained on together; `all` selects every one that is not a reference."""
    validate_on: tuple[str, ...] = ()
    """Instruments of SYMBOLS in validation and test, so that only the training data vary; all of them if not given."""
    features: str = "a25s"
    """Feature set: a25s (stationary), a25 (raw), s50 or s100 (wider, stationary); `make features` lists them."""
    index: str = ""
    """Instrument that the cross-asset features of s50 and s100 compare with, for example ^GSPC."""
    volatility_index: str = ""
    """Instrument whose level s50 and s100 use as implied volatility, for example ^VIX."""
    horizon: int = 1
    """Sessions ahead in which the price may touch the threshold."""
    task: TargetKind = "threshold"
    """threshold: touches close x (1 + threshold). downside: touches close x (1 - threshold). end: the last close is that
    much higher. direction: the last close is higher."""
    threshold: float = 0.01
    """Relative move that counts; 0.01 is 1%."""
    touch: Literal["auto", "high", "low", "close"] = "auto"
    """Price that touches: intraday (high, or low for downside) if not given, or close."""
    shuffle_labels: int | None = None
    """Seed of a permutation of the labels, for a negative control: no model may then beat the base rate."""
    context: int = 60
    """Days that a model sees, the predicted day's own day last."""
    windows: str = ""
    """Training windows to use, for example 4K; all if not given."""
    windows_from: Literal["recent", "everywhere"] = "recent"
    """recent: the newest days. everywhere: any days of the history, the same for every sweep."""
    train_end: date | None = None
    """Last training day; for the bundled data 2011-12-31, for others after 65% of the sessions."""
    validation_end: date | None = None
    """Last validation day; for the bundled data 2015-06-30, for others after 82.5% of the sessions."""
    test_end: date | None = None
    """Last test day, the last day of the data if not given; no sweep uses the test days' prices."""
    embargo: int = 0
    """Sessions dropped before each border on top of the purge of `horizon` sessions."""
    allow_thin_evidence: bool = False
    """Continue below the evidence floor (200 days, 30 with the rarer class per split); the runs are tagged."""


def target_of(options: TaskOptions) -> TargetSpec:
    """Return the target that the options describe; `options_of` is its inverse."""
    return TargetSpec(
        horizon=options.horizon,
        kind=options.task,
        threshold=options.threshold,
        touch=options.touch,
        shuffled=options.shuffle_labels,
    )


def options_of(spec: TrialSpec, *, thin: bool) -> TaskOptions:
    """Return the options that give this task."""
    data, features, target, split = spec.task.data, spec.task.features, spec.task.target, spec.task.split
    return TaskOptions(
        data=data.snapshot_digest,
        symbols=data.symbols,
        validate_on=data.validate_on,
        features=features.feature_set,
        index=features.index,
        volatility_index=features.volatility_index,
        horizon=target.horizon,
        task=target.kind,
        # A direction has no threshold: the spec sets it to 0, the options need a positive one.
        threshold=target.threshold or TaskOptions().threshold,
        touch=target.touch,
        shuffle_labels=target.shuffled,
        context=spec.architecture.context_length,
        windows=str(split.train_windows or ""),
        windows_from=split.windows_from,
        train_end=split.train_end,
        validation_end=split.validation_end,
        test_end=split.test_end,
        embargo=split.embargo,
        allow_thin_evidence=thin,
    )
