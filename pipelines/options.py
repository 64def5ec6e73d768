"""What a user may say about a sweep. Light to import, so that `--help` answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Literal


@dataclass(frozen=True, kw_only=True)
class StudyOptions:
    """Data, features and the question."""

    data: str = "bundled"
    """Where bars come from: `bundled` (S&P 500 and Nasdaq, 1999-2018) or the digest of a snapshot."""
    symbol: str = "^GSPC"
    """Instrument inside the data; the bundled data have ^GSPC and ^IXIC."""
    features: str = "a25s"
    """Feature set: a25s (stationary) or a25 (raw)."""
    horizon: int = 1
    """Sessions ahead in which the price may touch the threshold."""
    threshold: float = 0.01
    """Relative move that counts as a touch; 0.01 is 1%."""
    touch: Literal["high", "close"] = "high"
    """high: intraday highs count. close: only closes count."""
    context: int = 60
    """Days that a model sees, the predicted day's own day last."""
    train_end: date = date(2011, 12, 31)
    """Last training day."""
    validation_end: date = date(2015, 6, 30)
    """Last validation day."""
    test_end: date = date(2018, 12, 31)
    """Last test day; no sweep ever looks at the test days' prices."""
    embargo: int = 0
    """Sessions dropped before each border on top of the purge of `horizon` sessions."""
    allow_thin_evidence: bool = False
    """Go on below the evidence floor (200 samples, 30 of the rarer class per split); the runs are tagged."""


@dataclass(frozen=True, kw_only=True)
class SweepOptions(StudyOptions):
    """Search architectures and training settings at one parameter budget.

    Every trial is a nested MLflow run; the baselines run on the same rows. Example:
    python -m pipelines.sweep --budget 20K --horizon 3 --trials 12
    """

    budget: str = "3K"
    """Number of parameters: 3K, 20K, 2M, 200M, 2B or any other; architectures within 25% of it are tried."""
    trials: int = 12
    """Trials of the search in all, those of earlier starts included; baselines and replicates come on top."""
    add_trials: int | None = None
    """Trials more than the sweep was planned to have; a supplement that was stopped is finished, not added to."""
    epochs: int = 20
    """Most epochs a trial may take; there is no time limit."""
    patience: int = 6
    """Epochs without a better validation loss before a trial stops."""
    layers: tuple[int, ...] = ()
    """Depths to search instead of the budget's grid, for example 64 96 128; earlier trials stay and count."""
    widths: tuple[int, ...] = ()
    """Values of d_model to search instead of the grid's."""
    heads: tuple[int, ...] = ()
    """Numbers of attention heads to search instead of the grid's."""
    learning_rate: tuple[float, float] = (1e-4, 1e-2)
    """Range of the peak learning rate, searched on a log scale."""
    weight_decay: tuple[float, float] = (1e-4, 3e-1)
    """Range of the decoupled decay, log scale."""
    dropout: tuple[float, float] = (0.0, 0.4)
    """Range of the dropout probability."""
    warmup: tuple[int, int] = (0, 100)
    """Range of the warm-up in optimizer steps; it always ends by half of the shortest training."""
    batch_sizes: tuple[int, ...] = (64, 128, 256)
    """Batch sizes to choose from, in windows per optimizer step."""
    window_norm: bool = False
    """Normalise each window by its own level and feed the level back in as an input."""
    sampler: Literal["tpe", "gp", "cmaes", "random"] = "tpe"
    """Who proposes: TPE (multivariate), a Gaussian process, CMA-ES or nobody."""
    random_share: float = 0.4
    """Share of trials drawn at random whatever the sampler has learned, 20 of 50: unbiased tuning curves need them."""
    pruner: Literal["none", "hyperband", "median", "wilcoxon"] = "none"
    """Stops trials that fall behind; their losses are not comparable any more, so it is off unless asked for."""
    replicates: int = 0
    """Fresh seeds on which the best configurations are trained again after the search."""
    replicate_best: int = 3
    """How many of the best configurations are replicated."""
    seed: int = 0
    """Seed of the search and of every trial's weights, data order and dropout."""
    device: str = "auto"
    """auto, cpu, cuda, cuda:N or mps."""
    workers: int | None = None
    """Trials at a time, each in a process of its own; 1 runs them in this process. Chosen by measurement if not given."""
    ray: str | None = None
    """Run trials as Ray tasks: `auto` (the cluster there is, else this machine) or a cluster's address."""
    threads: int | None = None
    """CPU threads of a trial; the cores shared among the workers if not given. The same number gives the same bits."""
    micro_batch: int | None = None
    """Windows per forward pass; chosen to fit the memory if not given. Gradients add up to the full batch."""
    attempts: int = 3
    """How often a trial may die in the same epoch before it counts as crashed."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""
    checkpoints: Path | None = None
    """Folder of the running trials' states, in the store if not given; give several machines a shared one."""
