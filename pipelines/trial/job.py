"""The input and output of an executor. Both can be sent to another process or machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from research.evaluation.metrics import Scores
from research.spec import TrialSpec
from research.tracking.schema import Outcome


class TrialKey(NamedTuple):
    """Identity of a trial in its sweep, the same for all its attempts."""

    number: int
    seed: int
    """The sweep's seed for a searched trial, a fresh seed for a replicate."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """A trial or replicate to be trained."""

    number: int
    """Number of the trial in its sweep. A replicate has the number of the trial that it repeats."""
    spec: TrialSpec
    kind: Literal["trial", "replicate"] = "trial"
    tags: dict[str, str] = field(default_factory=dict)
    """Proposed settings, their proposer, and the number of the attempt."""
    leading_loss: float = float("inf")
    """Best validation loss of the sweep so far. A trial below it also leaves its weights."""

    @property
    def key(self) -> TrialKey:
        """Number and seed."""
        return TrialKey(self.number, self.spec.training.seed)

    @property
    def name(self) -> str:
        """Run name. The number comes first because the column is narrow."""
        seed = f".s{self.spec.training.seed}" if self.kind == "replicate" else ""
        return f"{self.number:04d}{seed} {self.spec.architecture.label}"


JobStack = tuple[Job, ...]
"""Jobs of one architecture and batch size that are trained as one model. Most stacks have a single job."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """Result of a trial, replicate or baseline, for the table and the sampler."""

    run_id: str
    name: str
    kind: str
    outcome: Outcome
    reason: str = ""
    n_parameters: int = 0
    scores: Scores | None = None
    alarm: str = "none"
    spec: TrialSpec | None = None
    seconds: float = 0.0
    number: int = -1
    proposed_by: str = ""
    linked_run_id: str = ""
    """Run with the same fingerprint that the result was copied from, if nothing was trained."""

    @property
    def ending(self) -> str:
        """Outcome, followed by the alarm and the link if there are any."""
        words = [self.outcome, *([] if self.alarm == "none" else [self.alarm]), *(["linked"] if self.linked_run_id else [])]
        return ", ".join(words)

    @property
    def val_loss(self) -> float:
        """Validation loss for sorting. Infinite unless the trial is complete."""
        return self.scores.loss if self.scores and self.outcome == "complete" else float("inf")


@dataclass(frozen=True, kw_only=True)
class StackResult:
    """Results of a stack, or the reason that its worker was lost."""

    stack: JobStack
    results: tuple[TrialResult, ...] = ()
    """Results in the stack's order. Empty if the stack was lost."""
    lost: str = ""
    """Reason that there is no result, for example `worker process 12 was killed by signal 9`."""
