"""From the best trial to a registered model that takes raw bars and returns probabilities."""

from __future__ import annotations

import json
import tempfile
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING

import mlflow.pyfunc
import numpy as np
import pandas as pd
from mlflow.models import ModelSignature
from mlflow.types import ColSpec, Schema

from pipelines.job import Finished
from research.data.bars import OHLCV
from research.spec import canonical_json
from research.tracking import schema
from research.tracking.provenance import PROJECT
from research.tracking.registry import Registered, already_challenger, register

if TYPE_CHECKING:
    from pipelines.state import Sweep

SERVED_FILE = PROJECT / "pipelines" / "served_model.py"
REQUIREMENTS = ("mlflow", "torch", "numpy", "pandas", "TA-Lib", "safetensors", "scipy", "pyarrow")
EXAMPLE_DAYS = 300
"""Rows of the input example: more than the warm-up of the features plus one context."""

SIGNATURE = ModelSignature(
    inputs=Schema([ColSpec("string", "date"), *(ColSpec("double", name) for name in OHLCV)]),
    outputs=Schema([ColSpec("string", "date"), ColSpec("double", "probability")]),
)


def register_best(sweep: Sweep, best: Finished) -> Registered:
    """Log the model to the best trial's run and register it as `<experiment>-<budget>-h<horizon>`."""
    assert best.spec is not None
    assert best.scores is not None
    study = sweep.context.study
    name = f"{study.experiment}-{sweep.title}"
    if held := already_challenger(sweep.context.store, name, best.run_id):
        return held
    with tempfile.TemporaryDirectory() as folder:
        _save_model(Path(folder), sweep, best)
        sweep.context.store.client.log_artifacts(best.run_id, str(Path(folder) / schema.MODEL_FOLDER), schema.MODEL_FOLDER)
    return register(
        sweep.context.store,
        name=name,
        run_id=best.run_id,
        val_loss=best.scores.loss,
        study=sweep.context.tags[schema.STUDY_FINGERPRINT],
        description=f"{best.name}: {best.n_parameters:,} parameters, val_loss {best.scores.loss:.4f}, "
        f"skill {best.scores.skill:+.3f}. Candidate: chosen on validation, not yet tested.",
    )


def _save_model(folder: Path, sweep: Sweep, best: Finished) -> None:
    assert best.spec is not None
    prepared = sweep.context.study.prepared
    weights = sweep.context.store.local_artifact(best.linked_run_id or best.run_id, schema.WEIGHTS_FILE)
    scaler = {"mean": prepared.standardiser.mean.tolist(), "scale": prepared.standardiser.scale.tolist()}
    (folder / "scaler.json").write_text(json.dumps(scaler))
    (folder / schema.SPEC_FILE).write_text(canonical_json(best.spec))
    bars = sweep.context.study.snapshot.of(best.spec.study.data.symbol)
    mlflow.pyfunc.save_model(
        folder / schema.MODEL_FOLDER,
        python_model=str(SERVED_FILE),
        code_paths=[str(PROJECT / "research")],
        artifacts={
            "weights": str(weights),
            "scaler": str(folder / "scaler.json"),
            "spec": str(folder / schema.SPEC_FILE),
        },
        signature=SIGNATURE,
        input_example=example_of(bars),
        pip_requirements=[f"{name}=={version(name).split('+')[0]}" for name in REQUIREMENTS],
    )


def example_of(bars: pd.DataFrame, days: int = EXAMPLE_DAYS) -> pd.DataFrame:
    """The newest bars in the form that the registered model takes: dates as text, OHLCV as numbers."""
    newest = bars[OHLCV].tail(days).astype(np.float64)
    return newest.rename_axis("date").reset_index().assign(date=lambda table: table["date"].dt.strftime("%Y-%m-%d"))
