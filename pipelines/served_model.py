"""The registered model, stored by MLflow as code: raw OHLCV bars in, one probability per day out.

Features, scaling and windows are those of training, from the same modules, so that the two cannot drift.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from mlflow.models import set_model
from mlflow.pyfunc.model import PythonModel, PythonModelContext
from scipy.special import expit

from research.data.bars import check_bars
from research.features.feature_sets import build, feature_set_named
from research.features.standardise import Standardiser
from research.spec import ArchitectureSpec, InputError
from research.training.checkpoint import load_weights
from research.windows.dataset import WindowDataset


class BarsToProbability(PythonModel):
    """Probability that the trained question's answer is yes, for every day with a full context."""

    def load_context(self, context: PythonModelContext) -> None:
        """Read spec, scaler and weights."""
        spec = json.loads(Path(context.artifacts["spec"]).read_text())
        scaler = json.loads(Path(context.artifacts["scaler"]).read_text())
        shape = {name: value for name, value in spec["architecture"].items() if name != "spec"}
        self.features = feature_set_named(spec["study"]["features"]["feature_set"])
        trained_with = spec["study"]["features"]["version"]
        if self.features.version != trained_with:
            raise InputError(f"the model needs {self.features.name} version {trained_with}, here is {self.features.version}.")
        self.symbol = spec["study"]["data"]["symbol"]
        self.standardiser = Standardiser(mean=np.array(scaler["mean"]), scale=np.array(scaler["scale"]))
        self.model = load_weights(ArchitectureSpec(**shape), Path(context.artifacts["weights"]))

    def predict(
        self, context: PythonModelContext, model_input: pd.DataFrame, params: dict[str, Any] | None = None
    ) -> pd.DataFrame:
        """Table with columns date and probability; days before the first full context are left out."""
        bars = model_input.assign(date=pd.to_datetime(model_input["date"])).set_index("date")
        check_bars(bars, self.symbol)
        matrix = build(self.features, bars)
        context_length = self.model.architecture.context_length
        first = matrix.first_row + context_length - 1
        if first >= len(bars):
            raise InputError(f"{len(bars)} bars are too few; give at least {first + 1}.")
        values = self.standardiser.apply(matrix.values)
        dataset = WindowDataset(values, np.zeros(len(bars), dtype=np.int8), context_length, torch.device("cpu"))
        with torch.no_grad():
            logits = self.model(dataset.gather(torch.arange(first, len(bars)))[0]).double().numpy()
        days = pd.DatetimeIndex(bars.index[first:]).strftime("%Y-%m-%d")
        return pd.DataFrame({"date": days, "probability": expit(logits)})


set_model(BarsToProbability())
