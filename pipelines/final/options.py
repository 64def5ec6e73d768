"""Options of `make train` and `make evaluate`; the module imports little, so that `--help` is fast."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class TrainOptions:
    """Train the best configuration of a sweep on training and validation days together, over fresh seeds.

    examples:
      make train BUDGET=20K HORIZON=1
      make train RUN=3f2a9c SEEDS=5
      tapescale train --budget 20K --horizon 1
    """

    budget: str = ""
    """Parameter budget of the sweep whose best trial is trained, for example 20K."""
    horizon: int = 1
    """Horizon of that sweep, in sessions."""
    run: str = ""
    """Run id of a trial, or its first characters, instead of budget and horizon."""
    seeds: int = 3
    """Number of fresh seeds; the model predicts the mean of their probabilities."""
    calibration: Literal["none", "temperature", "isotonic"] = "none"
    """Calibration map of the registered model, fitted on the trial's validation predictions."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    threads: int | None = None
    """Number of CPU threads; one per core if not given."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Evaluate a final run on its test days, once: loss, skill, baselines, calibration, by year and by volatility.

    examples:
      make evaluate BUDGET=20K HORIZON=1
      make evaluate BUDGET=20K HORIZON=1 WALK_FORWARD=1
      make evaluate RUN=3f2a9c AGAIN=1
      tapescale evaluate --budget 20K --horizon 1
    """

    budget: str = ""
    """Parameter budget of the final run, for example 20K."""
    horizon: int = 1
    """Horizon of the final run, in sessions."""
    run: str = ""
    """Id of a final run, or its first characters, instead of budget and horizon."""
    again: bool = False
    """Repeat an evaluation of this run; the new one is marked as a second look."""
    walk_forward: bool = False
    """Also evaluate model and references trained again before each calendar year, on all rows known by then."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""
