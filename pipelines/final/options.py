"""What a user may say about the last training and the look at the test. Light to import, so that `--help` answers at once."""

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
    """Budget of the sweep whose best trial is taken, for example 20K."""
    horizon: int = 1
    """Its horizon."""
    run: str = ""
    """A trial's run id, or how it begins, instead of budget and horizon."""
    seeds: int = 3
    """Fresh seeds; the answer is the mean of their probabilities."""
    calibration: Literal["none", "temperature", "isotonic"] = "none"
    """Map of the probabilities that the registered model carries, fitted on the trial's validation predictions."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    threads: int | None = None
    """CPU threads; one per core if not given."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""


@dataclass(frozen=True, kw_only=True)
class EvaluateOptions:
    """Open the test days for a final run, once: loss, skill, baselines, calibration, by year and by volatility.

    examples:
      make evaluate BUDGET=20K HORIZON=1
      make evaluate BUDGET=20K HORIZON=1 WALK_FORWARD=1
      make evaluate RUN=3f2a9c AGAIN=1
      tapescale evaluate --budget 20K --horizon 1
    """

    budget: str = ""
    """Budget of the final run, for example 20K."""
    horizon: int = 1
    """Its horizon."""
    run: str = ""
    """A final run's id, or how it begins, instead of budget and horizon."""
    again: bool = False
    """Look again at test days that this run has been evaluated on; the evaluation is marked as a second look."""
    walk_forward: bool = False
    """In the same look, train model and references again before each calendar year, on all days that were known by then."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store."""
