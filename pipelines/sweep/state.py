"""The state of a sweep in its driver."""

from __future__ import annotations

from dataclasses import dataclass, field

from pipelines.options import SweepOptions
from pipelines.sweep.history import SweepHistory
from pipelines.sweep.replicates import best_configurations
from pipelines.sweep.sampler import TrialSampler
from pipelines.sweep.search_space import SearchSpace
from pipelines.trial.context import SweepContext
from pipelines.trial.job import TrialResult
from research.runtime import Runtime
from research.spec import ArchitectureSpec
from research.tracking.run_writer import RunLog


@dataclass(kw_only=True)
class Sweep:
    """State of a sweep. All of it can be rebuilt from MLflow."""

    options: SweepOptions
    context: SweepContext
    runtime: Runtime
    """Device, threads and precision of the driver's process."""
    log: RunLog
    architectures: list[ArchitectureSpec]
    space: SearchSpace
    proposer: TrialSampler
    history: SweepHistory
    """Runs of earlier starts of this sweep."""
    total: int
    """Number of trials in the search."""
    finished: list[TrialResult] = field(default_factory=list)

    @property
    def title(self) -> str:
        """Name of the sweep, for example `20K-h1`."""
        return f"{self.context.budget.label}-{self.context.task.title}"

    @property
    def trials(self) -> list[TrialResult]:
        """Finished trials of the search, without baselines and replicates."""
        return [result for result in self.finished if result.kind == "trial"]

    @property
    def replicates(self) -> list[TrialResult]:
        """Finished replicates."""
        return [result for result in self.finished if result.kind == "replicate"]

    @property
    def best(self) -> TrialResult | None:
        """Best complete trial so far."""
        return next(iter(best_configurations(self.trials, 1)), None)

    @property
    def leading_loss(self) -> float:
        """Validation loss of the best trial so far."""
        return self.best.val_loss if self.best else float("inf")
