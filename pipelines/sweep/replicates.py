"""Replicates of the best configurations on fresh seeds, which show how much of a winner's lead is luck."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from pipelines.trial.job import Job, TrialResult
from research.tracking import schema


@dataclass(frozen=True, kw_only=True)
class ReplicateSummary:
    """Losses of one configuration on fresh seeds, without the seed that it was chosen on."""

    rank: int
    """Rank in the search, from 1."""
    chosen: TrialResult
    losses: tuple[float, ...]
    """Validation losses of the complete replicates."""
    failed: int

    @property
    def mean(self) -> float:
        """Mean validation loss; NaN without a complete replicate."""
        return float(np.mean(self.losses)) if self.losses else float("nan")

    @property
    def sd(self) -> float:
        """Standard deviation over seeds; NaN below two."""
        return float(np.std(self.losses, ddof=1)) if len(self.losses) > 1 else float("nan")

    def metrics(self) -> dict[str, float]:
        """The parent's metrics of this rank."""
        prefix = f"{schema.SWEEP_PREFIX}replicates_{self.rank}_"
        found = {"mean": self.mean, "sd": self.sd, "n": float(len(self.losses)), "chosen_val_loss": self.chosen.val_loss}
        return {f"{prefix}{name}": value for name, value in found.items() if value == value}


def best_configurations(trials: list[TrialResult], count: int) -> list[TrialResult]:
    """Return the best complete trials of different configurations, best first."""
    found: dict[str, TrialResult] = {}
    for one in sorted((one for one in trials if one.outcome == "complete"), key=lambda one: one.val_loss):
        assert one.spec is not None
        found.setdefault(one.spec.config_fingerprint, one)
    return list(found.values())[:count]


def replicate_jobs(best: list[TrialResult], replicates: int) -> Iterator[Job]:
    """Yield one job per configuration and fresh seed. Fresh seeds follow the trial's own."""
    for one in best:
        assert one.spec is not None
        for offset in range(1, replicates + 1):
            training = replace(one.spec.training, seed=one.spec.training.seed + offset)
            yield Job(
                number=one.number,
                kind="replicate",
                spec=replace(one.spec, training=training),
                tags={schema.REPLICATE_OF: one.run_id, schema.PROPOSED_BY: "replicate"},
                # It cannot become the sweep's best model, so that nothing needs its weights.
                leading_loss=float("-inf"),
            )


def replicated(best: list[TrialResult], runs: list[TrialResult]) -> list[ReplicateSummary]:
    """Return the summary of each configuration's replicates."""
    groups: dict[str, list[TrialResult]] = {}
    for run in runs:
        assert run.spec is not None
        groups.setdefault(run.spec.config_fingerprint, []).append(run)
    rows = []
    for rank, chosen in enumerate(best, 1):
        assert chosen.spec is not None
        mine = groups.get(chosen.spec.config_fingerprint, [])
        losses = tuple(run.val_loss for run in mine if run.outcome == "complete")
        rows.append(ReplicateSummary(rank=rank, chosen=chosen, losses=losses, failed=len(mine) - len(losses)))
    return [row for row in rows if row.losses or row.failed]
