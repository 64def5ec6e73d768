"""The state of a running sweep."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.options import SweepOptions
from pipelines.sweep.history import SweepHistory
from pipelines.sweep.replicates import best_configurations
from pipelines.sweep.sampler import TrialSampler
from pipelines.sweep.search_space import SearchSpace
from pipelines.trial.context import Context
from pipelines.trial.job import TrialResult
from research.spec import ArchitectureSpec
from research.tracking.run_writer import RunLog


@dataclass(kw_only=True)
class Sweep:
    """What the driver knows and does; all of it can be rebuilt from MLflow."""

    options: SweepOptions
    context: Context
    log: RunLog
    architectures: list[ArchitectureSpec]
    space: SearchSpace
    proposer: TrialSampler
    history: SweepHistory
    """What earlier starts of this sweep left in MLflow."""
    total: int
    """Trials of the search in all."""
    finished: list[TrialResult] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Name of the sweep, for example `20K-h1`."""
        return f"{self.context.budget.label}-{self.context.task.title}"

    @property
    def trials(self) -> list[TrialResult]:
        """Finished trials of the search, without baselines and replicates."""
        return [one for one in self.finished if one.kind == "trial"]

    @property
    def replicates(self) -> list[TrialResult]:
        """Finished replicates."""
        return [one for one in self.finished if one.kind == "replicate"]

    @property
    def best(self) -> TrialResult | None:
        """Best complete trial so far."""
        return next(iter(best_configurations(self.trials, 1)), None)

    @property
    def leading_loss(self) -> float:
        """Validation loss of the best trial so far."""
        return self.best.val_loss if self.best else float("inf")
