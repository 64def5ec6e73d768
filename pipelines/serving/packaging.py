"""From the best trial to a registered model that takes raw bars and returns probabilities."""

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
"""Days of each instrument that the input example asks about; what features and context need comes before them."""

DIVIDENDS = "dividends"


def log_model(
    store: Store, run_id: str, task: Task, spec: TrialSpec, weights: Sequence[Path], answering: EnsembleOutput | None = None
) -> None:
    """Log the model to a run; of several weights files, one per seed, it gives the mean probability."""
    with tempfile.TemporaryDirectory() as folder:
        _save_model(Path(folder), task, spec, weights, answering or EnsembleOutput())
        store.client.log_artifacts(run_id, str(Path(folder) / schema.MODEL_FOLDER), schema.MODEL_FOLDER)


def _save_model(folder: Path, task: Task, spec: TrialSpec, weights: Sequence[Path], answering: EnsembleOutput) -> None:
    standardiser = task.prepared.standardiser
    scaler = {
        "mean": standardiser.mean.tolist(),
        "scale": standardiser.scale.tolist(),
        "allowed": task.snapshot.manifest.allowed,
    }
    told = {"scaler": json.dumps(scaler), "spec": canonical_json(spec)}
    told |= {name: json.dumps(values, indent=2) for name, values in answering.files().items()}
    for name, text in told.items():
        (folder / f"{name}.json").write_text(text)
    copies = [folder / f"weights_{place:03d}.safetensors" for place in range(len(weights))]
    for source, copy in zip(weights, copies, strict=True):
        # All seeds' files have one name, and the model's artifacts lie in one folder.
        shutil.copyfile(source, copy)
    example = example_of(task)
    script, package = write_own_code(SERVED_FILE, folder / "own_code")
    with _importable(package):
        mlflow.pyfunc.save_model(
            folder / schema.MODEL_FOLDER,
            python_model=str(script),
            code_paths=[str(package)],
            artifacts={
                **{copy.stem: str(copy) for copy in copies},
                **{name: str(folder / f"{name}.json") for name in told},
            },
            signature=signature_of(example, has_interval=answering.interval is not None),
            input_example=example,
            pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS],
        )


@contextmanager
def _importable(package: Path) -> Iterator[None]:
    """Let MLflow import the package while it saves the model, and forget it afterwards: its folder is a temporary one."""
    sys.path.insert(0, str(package.parent))
    try:
        yield
    finally:
        sys.path.remove(str(package.parent))
        for name in [name for name in sys.modules if name.split(".")[0] == package.name]:
            del sys.modules[name]


def example_of(task: Task, days: int = EXAMPLE_DAYS) -> pd.DataFrame:
    """The bars behind the newest `days` answers, in the form that the registered model takes: dates as text, OHLCV as numbers.

    Dividends are there where the instruments pay any, and a column symbol where there are several instruments or the
    features compare with others.
    """
    return as_table(_newest(task, days))


def as_table(bars: Mapping[str, pd.DataFrame]) -> pd.DataFrame:
    """Bars by instrument in the form that the registered model takes."""
    columns = [*OHLCV, *([DIVIDENDS] if any(_pays(one) for one in bars.values()) else [])]
    tables = [_as_text(one.reindex(columns=columns, fill_value=0.0)).assign(symbol=name) for name, one in bars.items()]
    example = pd.concat(tables, ignore_index=True)[["symbol", "date", *columns]]
    return example if len(bars) > 1 else example.drop(columns="symbol")


def _newest(task: Task, days: int) -> dict[str, pd.DataFrame]:
    """Newest bars of each instrument, and those of the features' references that stand beside them."""
    features = task.spec.features
    references = {"index": features.index, "volatility_index": features.volatility_index}
    before = feature_set_named(features.feature_set, **references).warm_up + task.prepared.context_length - 1
    bars = {symbol: task.snapshot.of(symbol).tail(before + days) for symbol in task.spec.data.symbols}
    # A reference with other sessions has another number of rows between the same two days.
    first = min(one.index[0] for one in bars.values()) - pd.Timedelta(days=OLDEST)
    return bars | {name: task.snapshot.of(name).loc[first:] for name in references.values() if name}


def signature_of(example: pd.DataFrame, *, has_interval: bool = False) -> ModelSignature:
    """Columns of the example in, a probability per day (and instrument) out, with low and high of an ensemble.

    A symbol and dividends may be given where the example has none: MLflow keeps columns that a signature does not know from
    the model, which would then answer for another instrument's bars, or for prices that it cannot adjust.
    """
    texts = [name for name in ("symbol", "date") if name in example.columns]
    kinds = {"symbol": "string", "date": "string", **dict.fromkeys([*OHLCV, DIVIDENDS], "double")}
    numbers = ["probability", *(["low", "high"] if has_interval else [])]
    return ModelSignature(
        inputs=Schema([ColSpec(kind, name, required=name in example.columns) for name, kind in kinds.items()]),
        params=ParamSchema([ParamSpec("days", DataType.long, 0)]),
        outputs=Schema([*(ColSpec("string", name) for name in texts), *(ColSpec("double", name) for name in numbers)]),
    )


def _pays(bars: pd.DataFrame) -> bool:
    return DIVIDENDS in bars.columns and bool((bars[DIVIDENDS] > 0).any())


def _as_text(bars: pd.DataFrame) -> pd.DataFrame:
    table = bars.astype(np.float64).rename_axis("date").reset_index()
    return table.assign(date=table["date"].dt.strftime("%Y-%m-%d"))
