"""Packaging of trained weights as an MLflow model that takes raw bars and returns probabilities."""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, DataType, ParamSchema, ParamSpec, Schema

from pipelines.serving.own_code import write_own_code
from research.data.bars import OHLCV
from research.evaluation.ensemble import EnsembleOutput
from research.features.feature_sets import feature_set_named
from research.features.reference_series import OLDEST
from research.fingerprint import canonical_json
from research.spec import TrialSpec
from research.task.task import Task
from research.tracking import schema
from research.tracking.store import Store

SERVED_FILE = Path(__file__).with_name("served_model.py")
REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "TA-Lib", "safetensors", "scipy", "pyarrow")
EXAMPLE_DAYS = 40
"""Number of days predicted in the input example; the bars that features and context need come before them."""
DIVIDENDS = "dividends"


def log_model(
    store: Store, run_id: str, task: Task, spec: TrialSpec, weights: Sequence[Path], output: EnsembleOutput | None = None
) -> None:
    """Log the model to a run; with several weights files, one per seed, it predicts the mean probability."""
    with tempfile.TemporaryDirectory() as folder:
        _save_model(Path(folder), task, spec, weights, output or EnsembleOutput())
        store.client.log_artifacts(run_id, str(Path(folder) / schema.MODEL_FOLDER), schema.MODEL_FOLDER)


def _save_model(folder: Path, task: Task, spec: TrialSpec, weights: Sequence[Path], output: EnsembleOutput) -> None:
    standardiser = task.prepared.standardiser
    scaler = {
        "mean": standardiser.mean.tolist(),
        "scale": standardiser.scale.tolist(),
        "allowed": task.snapshot.manifest.allowed,
    }
    files = {"scaler": json.dumps(scaler), "spec": canonical_json(spec)}
    files |= {name: json.dumps(values, indent=2) for name, values in output.files().items()}
    artifacts = {name: folder / f"{name}.json" for name in files}
    for name, text in files.items():
        artifacts[name].write_text(text)
    for index, source in enumerate(weights):
        # The weights of all seeds have the same file name, and the model's artifacts share one folder.
        artifacts[f"weights_{index:03d}"] = folder / f"weights_{index:03d}.safetensors"
        shutil.copyfile(source, artifacts[f"weights_{index:03d}"])
    example = example_of(task)
    script, package = write_own_code(SERVED_FILE, folder / "own_code")
    with _importable(package):
        mlflow.pyfunc.save_model(
            folder / schema.MODEL_FOLDER,
            python_model=str(script),
            code_paths=[str(package)],
            artifacts={name: str(path) for name, path in artifacts.items()},
            signature=signature_of(example, has_interval=output.interval is not None),
            input_example=example,
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS],
        )


@contextmanager
def _importable(package: Path) -> Iterator[None]:
    """Make the package importable while MLflow saves the model, and unload it afterwards: its folder is temporary."""
    sys.path.insert(0, str(package.parent))
    try:
        yield
    finally:
        sys.path.remove(str(package.parent))
        for name in [name for name in sys.modules if name.split(".")[0] == package.name]:
            del sys.modules[name]


def example_of(task: Task, days: int = EXAMPLE_DAYS) -> pd.DataFrame:
    """Return the bars that the newest `days` predictions need, in the form that the registered model takes.

    Dates are text, prices and volumes numbers. There is a column of dividends if an instrument pays any, and a column symbol
    if there are several instruments or the features compare with others.
    """
    features = task.spec.features
    references = {"index": features.index, "volatility_index": features.volatility_index}
    context = feature_set_named(features.feature_set, **references).warm_up + task.prepared.context_length - 1
    bars = {symbol: task.snapshot.of(symbol).tail(context + days) for symbol in task.spec.data.symbols}
    # A reference with other sessions has another number of rows between the same two days.
    first = min(table.index[0] for table in bars.values()) - pd.Timedelta(days=OLDEST)
    return as_table(bars | {name: task.snapshot.of(name).loc[first:] for name in references.values() if name})


def as_table(bars: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Return the bars of several instruments as one table in the form that the registered model takes."""
    pays = any(DIVIDENDS in table.columns and bool((table[DIVIDENDS] > 0).any()) for table in bars.values())
    columns = [*OHLCV, *([DIVIDENDS] if pays else [])]
    tables = []
    for symbol, table in bars.items():
        values = table.reindex(columns=columns, fill_value=0.0).astype(np.float64).rename_axis("date").reset_index()
        tables.append(values.assign(date=values["date"].dt.strftime("%Y-%m-%d"), symbol=symbol))
    example = pd.concat(tables, ignore_index=True)[["symbol", "date", *columns]]
    return example if len(bars) > 1 else example.drop(columns="symbol")


def signature_of(example: pd.DataFrame, *, has_interval: bool = False) -> ModelSignature:
    """Return the model's signature: the example's columns in; probability, and low and high of an ensemble, out.

    Symbol and dividends are optional if the example has none. MLflow drops columns that a signature does not know; the model
    would then predict for another instrument's bars, or from prices that it cannot adjust.
    """
    texts = [name for name in ("symbol", "date") if name in example.columns]
    kinds = {"symbol": "string", "date": "string", **dict.fromkeys([*OHLCV, DIVIDENDS], "double")}
    outputs = ["probability", *(["low", "high"] if has_interval else [])]
    return ModelSignature(
        inputs=Schema([ColSpec(kind, name, required=name in example.columns) for name, kind in kinds.items()]),
        params=ParamSchema([ParamSpec("days", DataType.long, 0)]),
        outputs=Schema([*(ColSpec("string", name) for name in texts), *(ColSpec("double", name) for name in outputs)]),
    )
