"""The registered model, stored by MLflow as code: raw OHLCV bars in, one probability per day and instrument out.

An ensemble of seeds predicts the mean probability, with the interval in which one more seed would lie. A calibration, if there
is one, is applied last.

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
    """Error for unusable bars; only for an `MlflowException` does MLflow's server return 400 without a traceback."""

    def __init__(self, error: InputError):
        super().__init__(str(error), error_code=INVALID_PARAMETER_VALUE)


class BarsToProbability(PythonModel):
    """Model of the probability that the label is positive, for every day with a full context."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read spec, scaler, calibration and weights."""
        paths = {name: Path(file) for name, file in sorted(context.artifacts.items())}
        contents = {name: json.loads(path.read_text()) for name, path in paths.items() if path.suffix == ".json"}
        spec, scaler = contents["spec"], contents["scaler"]
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
        self.output = load_ensemble_output(contents)
        weights = [path for name, path in paths.items() if name.startswith("weights")]
        self.models = [load_weights(self.architecture, path, base_width=base_width) for path in weights]

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Return a table with columns date and probability, symbol if the bars have it, low and high for an ensemble.

        A column symbol is required if the model knows several instruments or its features compare with others. Days before the
        first full context are left out. `days` in `params` limits the result to the newest days of each instrument; 0, the
        default, means all. Raises `RefusedBars` with one sentence that names the field.
        """
        newest = int((params or {}).get("days", 0))
        try:
            require(newest >= 0, "days", newest, "give the number of newest days to predict, or 0 for all.")
            return self._predict_table(model_input, newest)
        except InputError as error:
            raise RefusedBars(error) from error

    def _predict_table(self, model_input: pd.DataFrame, newest: int) -> pd.DataFrame:
        if "symbol" not in model_input.columns:
            return self._single_instrument(model_input, newest)
        if model_input["symbol"].isna().any():
            raise InputError("symbol is missing in some rows; give the symbol of every bar.")
        bars = {str(symbol): self._bars(part, str(symbol)) for symbol, part in model_input.groupby("symbol", sort=False)}
        symbols = [symbol for symbol in bars if symbol in self.symbols or symbol not in self.references]
        if not symbols:
            raise InputError(f"there are no bars of {', '.join(self.symbols)}; give some.")
        tables = pd.concat({symbol: self._probabilities(symbol, bars, newest) for symbol in symbols}, names=["symbol"])
        return tables.reset_index("symbol").reset_index(drop=True)

    def _single_instrument(self, table: pd.DataFrame, newest: int) -> pd.DataFrame:
        if len(self.symbols) > 1 or self.references:
            needed = ", ".join([*self.symbols, *self.references])
            raise InputError(f"column symbol is missing: the model uses several instruments ({needed}); add it to all bars.")
        symbol = self.symbols[0]
        return self._probabilities(symbol, {symbol: self._bars(table, symbol)}, newest)

    def _probabilities(self, symbol: str, bars: Mapping[str, pd.DataFrame], newest: int) -> pd.DataFrame:
        architecture, traded = self.architecture, adjusted(bars[symbol])
        if symbol not in self.symbols:
            raise InputError(f"symbol={symbol}: the model was trained on {', '.join(self.symbols)}; give bars of these.")
        for reference in self.references:
            if reference not in bars:
                raise InputError(f"symbol={reference}: the features compare with it; add its bars.")
        minimum = self.features.warm_up + architecture.context_length
        if len(traded) < minimum:
            raise InputError(f"{symbol}: {len(traded)} bars are too few; give at least {minimum}.")
        matrix = build(self.features, traded, {name: bars[name] for name in self.references})
        first = matrix.first_row + architecture.context_length - 1
        if first >= len(traded):
            raise InputError(f"{symbol}: {len(traded)} bars are too few; give at least {first + 1}.")
        first = max(first, len(traded) - newest) if newest else first
        outputs = self.output(self._logits(self.standardiser.apply(matrix.values), first, symbol))
        days = pd.DatetimeIndex(traded.index[first:]).strftime("%Y-%m-%d")
        return pd.DataFrame({"date": days, **outputs})

    def _bars(self, table: pd.DataFrame, symbol: str) -> pd.DataFrame:
        """Return the bars by date; rule violations allowed in the training bars are allowed here."""
        days = pd.to_datetime(table["date"], format="ISO8601", errors="coerce")
        if days.isna().any():
            wrong = table["date"][days.isna()].iloc[0]
            raise InputError(f"{symbol}: date={wrong}: not a day; write days as 2018-12-31.")
        bars = table.drop(columns="symbol", errors="ignore").assign(date=days).set_index("date")
        if bars.empty:
            raise InputError(f"{symbol}: there are no bars; send at least one.")
        check_bars(bars, symbol, self.allowed, fix="send corrected bars")
        return bars

    def _logits(self, values: np.ndarray, first: int, symbol: str) -> np.ndarray:
        """Return logits of shape (models, rows) for the rows from `first` on."""
        index = self.symbols.index(symbol) if self.architecture.n_symbols else 0
        unlabelled, symbols = np.zeros(len(values), dtype=np.int8), np.full(len(values), index)
        dataset = WindowDataset(values, unlabelled, self.architecture.context_length, torch.device("cpu"), symbols)
        rows = torch.arange(first, len(values))
        logits = np.stack([predict_float64(model, dataset, rows) for model in self.models])
        if not np.isfinite(logits).all():
            raise InputError(f"{symbol}: the bars differ too much from those of training to compute a probability.")
        return logits


set_model(BarsToProbability())
