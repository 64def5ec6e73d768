"""What a user may say about a sweep. Light to import, so that `--help` answers at once."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from research.spec import TRANSFORMER
from research.task.options import TaskOptions


@dataclass(frozen=True, kw_only=True)
class SweepOptions(TaskOptions):
    """Search architectures and training settings at one parameter budget.

    Every trial is a nested MLflow run; the baselines run on the same rows.

    examples:
      make sweep BUDGET=20K HORIZON=3 TRIALS=12
      make sweep BUDGET=20K TRIALS=+10 REPLICATES=3 DEVICE=cuda
      tapescale sweep --budget 20K --horizon 3 --trials 12 --learning-rate 1e-4 3e-3
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
    base_width: int = 0
    """Width at which the learning rates are meant, for example 64: a model of width d trains its width-reading matrices at
    learning_rate * 64 / d and scales its attention accordingly (muP), so that a wide model is not judged by a rate that suits
    a narrow one. Choose a width from the middle of the grid. 0: every width takes the rate as it is."""
    family: str = TRANSFORMER
    """What the blocks of the models are: a name in `research.models.families`. Another family than the transformer has an
    experiment of its own: sizes and shapes are compared within a family."""
    window_norm: bool = False
    """Normalise each window by its own level and feed the level back in as an input."""
    symbol_embedding: bool = False
    """Let the model know which instrument it sees, by a learned vector of each; it is blind to that if not given."""
    optimizer: Literal["auto", "adamw", "adafactor"] = "auto"
    """adamw; adafactor, which trains in low memory (bfloat16 weights, no moments, blocks computed twice); auto takes adamw
    unless none of the budget's shapes fits the device with it. One for the whole sweep."""
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
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    """Of training's matrix products: bfloat16 where a probe finds it faster and right, if not given; one for the whole sweep.
    Weights and evaluation are float32 either way."""
    stack: str = "auto"
    """Trials of one architecture that are trained as one model: `auto` (as many as a probe finds faster, where enough trials
    are left for that), a number, or `off`. Each ends as it would alone."""
    micro_batch: int | None = None
    """Windows per forward pass; chosen to fit the memory if not given. Gradients add up to the full batch."""
    attempts: int = 3
    """How often a trial may die in the same epoch before it counts as crashed."""
    store: Path = Path("mlruns")
    """Folder of the MLflow store; `MLFLOW_TRACKING_URI` names a server instead."""
    checkpoints: Path | None = None
    """Folder of the running trials' states, in the store if not given; give several machines a shared one."""
