"""Construction of a task's data from options and bars: features, labels and split of every instrument, stacked."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from research.counts import parse_count
from research.data.dividend_adjustment import adjusted
from research.errors import InputError, require
from research.features.feature import FeatureSet
from research.features.feature_sets import A25, A25S, build, feature_set_named
from research.features.indicators import ewma_volatility
from research.spec import DataSpec, SplitSpec, TaskSpec
from research.task.options import TaskOptions, target_of
from research.task.splits import holdout, holdout_ends
from research.task.targets import label
from research.task.windows import InstrumentData, WindowedData, stack_windows

USUAL_SYMBOL = "^GSPC"
BUNDLED_ENDS = (date(2011, 12, 31), date(2015, 6, 30), date(2018, 12, 31))
ALL = "all"


@dataclass(frozen=True, kw_only=True)
class TaskData:
    """The selected bars in the form that models and baselines use."""

    spec: TaskSpec
    prepared: WindowedData
    stationary: WindowedData
    """The same rows with a25s, the features of the baselines, whose losses then do not depend on the trials' features."""
    volatility: NDArray[np.float64]
    """[R] log of the exponentially weighted volatility."""


def assemble(options: TaskOptions, bars: Mapping[str, pd.DataFrame], *, digest: str, source: str) -> TaskData:
    """Compute features and labels of every instrument and split them by the same dates.

    Prices are adjusted for dividends first. `InputError` if the data lack what the options name.
    """
    require(options.context >= 1, "CONTEXT", options.context, "give 1 day or more.")
    symbols = symbols_of(options, bars)
    features = feature_set_named(options.features, index=options.index, volatility_index=options.volatility_index)
    traded = {symbol: adjusted(bars[symbol]) for symbol in symbols}
    _require_no_dividends(features, bars, traded)
    data = DataSpec(snapshot_digest=digest, symbols=symbols, validate_on=options.validate_on or symbols)
    target = target_of(options)
    split = _split_spec(options, [traded[symbol].index for symbol in data.validate_on], source)
    spec = TaskSpec(data=data, features=features.spec, target=target, split=split)
    references = {name: bars[name] for name in references_of(features, bars)}
    parts = list(_parts(spec, features, traded, references, options.context))
    prepared = stack_windows(parts, options.context, validate_on=data.validate_on)
    _require_validated(spec, prepared)
    volatility = [ewma_volatility(traded[symbol]["close"].to_numpy(np.float64)) for symbol in symbols]
    return TaskData(
        spec=spec,
        prepared=prepared,
        stationary=prepared if features.name == A25S.name else _with_a25s(prepared, traded),
        volatility=np.concatenate(volatility),
    )


def symbols_of(options: TaskOptions, bars: Mapping[str, pd.DataFrame]) -> tuple[str, ...]:
    """Return the selected instruments; `InputError` lists the available ones."""
    available = ", ".join(sorted(bars))
    if options.symbol and options.symbols:
        raise InputError(f"SYMBOL={options.symbol}: give SYMBOL for one instrument or SYMBOLS for several, not both.")
    if options.symbols == (ALL,):
        return tuple(sorted(set(bars) - {options.index, options.volatility_index}))
    if not options.symbols and not options.symbol:
        if len(bars) == 1:
            return tuple(bars)
        if USUAL_SYMBOL not in bars:
            raise InputError(f"SYMBOL=: the data have {available}; give one as SYMBOL, or several as SYMBOLS=A,B.")
        return (USUAL_SYMBOL,)
    symbols = options.symbols or (options.symbol,)
    for symbol in symbols:
        if symbol not in bars:
            field = "SYMBOLS" if options.symbols else "SYMBOL"
            raise InputError(f"{field}={symbol}: the data have {available}.")
    return tuple(sorted(symbols))


def references_of(features: FeatureSet, bars: Mapping[str, pd.DataFrame]) -> list[str]:
    """Return the instruments that the set's cross-asset features need; `InputError` if the data lack one."""
    required = {"INDEX": features.spec.index, "VOLATILITY_INDEX": features.spec.volatility_index}
    for field, symbol in required.items():
        if symbol and symbol not in bars:
            raise InputError(f"{field}={symbol}: the data have {', '.join(sorted(bars))}.")
    return [symbol for symbol in required.values() if symbol]


def _split_spec(options: TaskOptions, days: list[pd.Index[pd.Timestamp]], source: str) -> SplitSpec:
    usual = BUNDLED_ENDS if source == "bundled" else holdout_ends(pd.DatetimeIndex(np.concatenate(days)))
    return SplitSpec(
        train_end=options.train_end or usual[0],
        validation_end=options.validation_end or usual[1],
        test_end=options.test_end or usual[2],
        embargo=options.embargo,
        train_windows=parse_count(options.windows, "WINDOWS", "training windows") if options.windows else None,
        windows_from=options.windows_from,
    )


def _parts(
    spec: TaskSpec,
    features: FeatureSet,
    traded: Mapping[str, pd.DataFrame],
    references: Mapping[str, pd.DataFrame],
    context_length: int,
) -> Iterator[InstrumentData]:
    for symbol, bars in traded.items():
        matrix, target = build(features, bars, references), label(bars, spec.target)
        try:
            split = holdout(target, spec.split, matrix.first_row, context_length)
        except InputError as error:
            raise InputError(f"{symbol}: {error}" if len(traded) > 1 else str(error)) from None
        yield InstrumentData(symbol=symbol, matrix=matrix, target=target, split=split)


def _require_no_dividends(features: FeatureSet, bars: Mapping[str, pd.DataFrame], traded: Mapping[str, pd.DataFrame]) -> None:
    """Raise `InputError` for raw columns of adjusted prices: past levels depend on later dividends, a look-ahead."""
    for symbol, adjusted_bars in traded.items():
        if features.name == A25.name and adjusted_bars is not bars[symbol]:
            fix = f"{symbol} pays dividends, and raw levels of adjusted prices depend on later ones; give a25s, s50 or s100."
            raise InputError(f"FEATURES={features.name}: {fix}")


def _require_validated(spec: TaskSpec, prepared: WindowedData) -> None:
    """Raise `InputError` if an instrument of VALIDATE_ON has no validation day."""
    for symbol in spec.data.validate_on:
        if symbol not in prepared.validated:
            days = f"{spec.split.train_end} .. {spec.split.validation_end}"
            raise InputError(f"VALIDATE_ON={symbol}: it has no labelled day in {days}; leave it out, or give other dates.")


def _with_a25s(prepared: WindowedData, traded: Mapping[str, pd.DataFrame]) -> WindowedData:
    """Return the same rows and split with the features a25s, whose warm-up is shorter, so that every row is complete."""
    parts = [replace(part, matrix=build(A25S, traded[part.symbol])) for part in prepared.parts]
    return stack_windows(parts, prepared.context_length, validate_on=prepared.validated)
