"""What is handed to an executor and what comes back. Both can be sent to another process or machine."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Literal, NamedTuple

from research.evaluation.metrics import Scores
from research.spec import TrialSpec
from research.tracking.schema import Outcome


class TrialKey(NamedTuple):
    """Which trial of its sweep a run is an attempt of."""

    number: int
    seed: int
    """The sweep's own for a searched trial, a fresh one for a replicate."""


@dataclass(frozen=True, kw_only=True)
class Job:
    """One trial or replicate to be trained."""

    number: int
    """Number of the trial in its sweep; a replicate has that of the trial it repeats."""
    spec: TrialSpec
    kind: Literal["trial", "replicate"] = "trial"
    tags: dict[str, str] = field(default_factory=dict)
    """What was proposed, by whom, which attempt it is."""
    leading_loss: float = float("inf")
    """Best validation loss of the sweep so far: a trial below it also leaves its weights."""

    @property
    def key(self) -> TrialKey:
        """The same for all attempts."""
        return TrialKey(self.number, self.spec.training.seed)

    @property
    def name(self) -> str:
        """Run name, number first, since the column is narrow."""
        seed = f".s{self.spec.training.seed}" if self.kind == "replicate" else ""
        return f"{self.number:04d}{seed} {self.spec.architecture.label}"


Team = tuple[Job, ...]
"""Jobs of one architecture and batch size that are trained side by side as one model; nearly always a single one."""


@dataclass(frozen=True, kw_only=True)
class TrialResult:
    """How a trial, replicate or baseline ended, for the table and the sampler."""

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
    """The run with the same fingerprint whose result this is, when nothing was trained."""

    @property
    def ending(self) -> str:
        """Outcome, with the alarm and the link if there are any."""
        words = [self.outcome, *([] if self.alarm == "none" else [self.alarm]), *(["linked"] if self.linked_run_id else [])]
        return ", ".join(words)

    @property
    def val_loss(self) -> float:
        """Objective; infinite unless the trial is complete, for sorting only."""
        return self.scores.loss if self.scores and self.outcome == "complete" else float("inf")


@dataclass(frozen=True, kw_only=True)
class StackResult:
    """What an executor says about a team: its results, or why its worker is gone."""

    team: Team
    finished: tuple[TrialResult, ...] = ()
    """In the team's order; empty if it was lost."""
    lost: str = ""
    """Why there is no result, for example `worker process 12 was killed by signal 9`."""
