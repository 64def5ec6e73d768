"""The registered model, stored by MLflow as code: raw OHLCV bars in, one probability per day and instrument out.

Of several weights, which differ by their seeds, the answer is the mean probability, with bounds within which one more seed
would lie. A calibration, where there is one, is applied last.

Adjustment for dividends, features, scaling and windows are those of training: a registered model carries a copy of this
file and of the modules that it imports (`pipelines.serving.own_code`).
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.exceptions import MlflowException
from mlflow.models import set_model
from mlflow.protos.databricks_pb2 import INVALID_PARAMETER_VALUE
from mlflow.pyfunc.model import PythonModel, PythonModelContext

from research.data.bars import check_bars
from research.data.dividend_adjustment import adjusted
from research.errors import InputError, require
from research.evaluation.ensemble import load_ensemble_output
from research.features.feature_sets import build, feature_set_named
from research.features.scaler import Scaler
from research.models.weights import load_weights
from research.spec import ArchitectureSpec
from research.task.windows import WindowDataset, predict_float64


class RefusedBars(MlflowException, InputError):  # noqa: N818
    """Bars that cannot be answered. MLflow's scoring server answers 400 without a traceback, as it does for no other class."""

    def __init__(self, problem: InputError):
        super().__init__(str(problem), error_code=INVALID_PARAMETER_VALUE)


class BarsToProbability(PythonModel):
    """Probability that the trained question's answer is yes, for every day with a full context."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read spec, scaler, calibration and weights."""
        told = {name: json.loads(Path(file).read_text()) for name, file in context.artifacts.items() if file.endswith(".json")}
        spec, scaler = told["spec"], told["scaler"]
        shape = {name: value for name, value in spec["architecture"].items() if name != "spec"}
        features = spec["study"]["features"]
        references = {name: features[name] for name in ("index", "volatility_index")}
        self.features = feature_set_named(features["feature_set"], **references)
        self.symbols: list[str] = spec["study"]["data"]["symbols"]
        self.references = [symbol for symbol in references.values() if symbol]
        self.allowed: list[str] = scaler["allowed"]
        self.standardiser = Scaler(mean=np.array(scaler["mean"]), scale=np.array(scaler["scale"]))
        base_width = int(spec["training"]["base_width"])
        self.architecture = ArchitectureSpec(**shape)
        self.answering = load_ensemble_output(told)
        files = [Path(file) for name, file in sorted(context.artifacts.items()) if name.startswith("weights")]
        self.models = [load_weights(self.architecture, file, base_width=base_width) for file in files]

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Table with columns date and probability, symbol where the bars have one, low and high of an ensemble.

        Bars of several instruments, or of those that the features compare with, need a column symbol. Days before the
        first full context are left out. `days` of `params` answers so many of the newest days of each instrument, and all
        where it is 0, as by default. Raises `RefusedBars`, one sentence that names the field.
        """
        newest = int((params or {}).get("days", 0))
        try:
            require(newest >= 0, "days", newest, "give how many of the newest days to answer, or 0 for all.")
            return self._answer(model_input, newest)
        except InputError as problem:
            raise RefusedBars(problem) from problem

    def _answer(self, model_input: pd.DataFrame, newest: int) -> pd.DataFrame:
        if "symbol" not in model_input.columns:
            return self._one(model_input, newest)
        if model_input["symbol"].isna().any():
            raise InputError("symbol is missing in some rows; say whose each bar is.")
        bars = {str(symbol): self._bars(part, str(symbol)) for symbol, part in model_input.groupby("symbol", sort=False)}
        asked = [symbol for symbol in bars if symbol in self.symbols or symbol not in self.references]
        if not asked:
            raise InputError(f"there are no bars of {', '.join(self.symbols)}; give some.")
        answers = pd.concat({symbol: self._probabilities(symbol, bars, newest) for symbol in asked}, names=["symbol"])
        return answers.reset_index("symbol").reset_index(drop=True)

    def _one(self, table: pd.DataFrame, newest: int) -> pd.DataFrame:
        if len(self.symbols) > 1 or self.references:
            needed = ", ".join([*self.symbols, *self.references])
            raise InputError(
                f"column symbol is missing: the model knows several instruments ({needed}); say whose each bar is."
            )
        return self._probabilities(self.symbols[0], {self.symbols[0]: self._bars(table, self.symbols[0])}, newest)

    def _probabilities(self, symbol: str, bars: Mapping[str, pd.DataFrame], newest: int) -> pd.DataFrame:
        architecture, traded = self.architecture, adjusted(bars[symbol])
        if symbol not in self.symbols:
            raise InputError(f"symbol={symbol}: the model was trained on {', '.join(self.symbols)}; give bars of these.")
        for reference in self.references:
            if reference not in bars:
                raise InputError(f"symbol={reference}: the features compare with it; add its bars.")
        least = self.features.warm_up + architecture.context_length
        if len(traded) < least:
            raise InputError(f"{symbol}: {len(traded)} bars are too few; give at least {least}.")
        matrix = build(self.features, traded, {name: bars[name] for name in self.references})
        first = matrix.first_row + architecture.context_length - 1
        if first >= len(traded):
            raise InputError(f"{symbol}: {len(traded)} bars are too few; give at least {first + 1}.")
        first = max(first, len(traded) - newest) if newest else first
        answers = self.answering(self._logits(self.standardiser.apply(matrix.values), first, symbol))
        days = pd.DatetimeIndex(traded.index[first:]).strftime("%Y-%m-%d")
        return pd.DataFrame({"date": days, **answers})

    def _bars(self, table: pd.DataFrame, symbol: str) -> pd.DataFrame:
        """The table by date; rules that were allowed when the training bars were taken in are allowed here."""
        days = pd.to_datetime(table["date"], format="ISO8601", errors="coerce")
        if days.isna().any():
            wrong = table["date"][days.isna()].iloc[0]
            raise InputError(f"{symbol}: date={wrong}: not a day; write days as 2018-12-31.")
        bars = table.drop(columns="symbol", errors="ignore").assign(date=days).set_index("date")
        if bars.empty:
            raise InputError(f"{symbol}: there are no bars; send some.")
        check_bars(bars, symbol, self.allowed, fix="send them mended")
        return bars

    def _logits(self, values: np.ndarray, first: int, symbol: str) -> np.ndarray:
        """One logit per model and per row from `first` on."""
        place = self.symbols.index(symbol) if self.architecture.n_symbols else 0
        unlabelled, symbols = np.zeros(len(values), dtype=np.int8), np.full(len(values), place)
        dataset = WindowDataset(values, unlabelled, self.architecture.context_length, torch.device("cpu"), symbols)
        rows = torch.arange(first, len(values))
        logits = np.stack([predict_float64(model, dataset, rows) for model in self.models])
        if not np.isfinite(logits).all():
            raise InputError(f"{symbol}: the bars are so far from those of training that no probability can be computed.")
        return logits


set_model(BarsToProbability())
