"""The two controls: a market with a planted signal, which must be found, and one without any, where nothing may be."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from pipelines.options import SweepOptions
from pipelines.sweep.state import Sweep
from research.evaluation.metrics import logits_of, row_losses
from research.evaluation.significance import Difference, paired_difference
from research.models.baselines import BASELINES
from research.models.weights import load_weights
from research.task.bayes_loss import BayesLoss, bayes_loss
from research.task.build import TaskData, assemble
from research.task.task import baseline_rows
from research.task.windows import predict
from research.tracking import schema
from research.tracking.run_writer import Value

NEAR = 0.7
"""Share of the way from the training prior to the Bayes loss that the best trial must have come."""


@dataclass(frozen=True, kw_only=True)
class ControlExperiment:
    """One control, on test days that neither its training nor its choice of a trial has seen."""

    title: str
    planted: bool
    sweep_run: str
    settings: dict[str, Value]
    """Market, question and size of the sweep, as they were used."""
    days: int
    losses: dict[str, float]
    """Test loss of the baselines and of the best trial (`best`)."""
    bayes: BayesLoss
    against_prior: Difference
    against_volatility: Difference

    @property
    def share(self) -> float:
        """How far from the prior to the Bayes loss the best trial has come: 0 nothing, 1 all there is to find."""
        prior = self.losses["prior"]
        return (prior - self.losses["best"]) / (prior - self.bayes.realised)

    @property
    def passed(self) -> bool:
        """Whether the pipeline did what this control asks."""
        if not self.planted:
            return self.against_prior.high >= 0
        return self.against_prior.high < 0 and self.against_volatility.high < 0 and self.share >= NEAR

    @property
    def verdict(self) -> str:
        """One sentence."""
        prior = self.against_prior
        gap = f"{prior.mean:+.4f} [{prior.low:+.4f}, {prior.high:+.4f}] nats against the training prior"
        if not self.planted:
            return f"no signal: {gap}" if self.passed else f"a signal where there is none: {gap}"
        if self.passed:
            return f"the signal was found: {gap}, {self.share:.0%} of the way to the Bayes loss"
        return f"the signal was missed: {gap}, {self.share:.0%} of the way to the Bayes loss, {NEAR:.0%} are asked for"


def examine(title: str, sweep: Sweep, options: SweepOptions) -> ControlExperiment:
    """Judge a finished sweep on the test days of its synthetic market."""
    task = sweep.context.task
    found = assemble(options, task.snapshot.bars, digest=task.snapshot.digest, source="synthetic")
    (part,) = found.prepared.parts
    labels, bars = found.prepared.labels_of("test"), task.snapshot.of(part.symbol)
    rows = baseline_rows(found, "test")
    logits = {name: logits_of(baseline(rows)) for name, baseline in BASELINES.items()}
    logits["best"] = _best_logits(sweep, found)
    losses = {name: row_losses(said, labels) for name, said in logits.items()}
    return ControlExperiment(
        title=title,
        planted=options.shuffle_labels is None,
        sweep_run=sweep.log.run_id,
        settings={
            **task.snapshot.manifest.request,
            "horizon": part.target.spec.horizon,
            "budget": sweep.context.budget.label,
            "trials": len(sweep.trials),
        },
        days=len(labels),
        losses={name: float(one.mean()) for name, one in losses.items()},
        bayes=bayes_loss(bars, part.target.spec, found.prepared.split.test),
        against_prior=paired_difference(losses["best"], losses["prior"]),
        against_volatility=paired_difference(losses["best"], losses["volatility"]),
    )


def _best_logits(sweep: Sweep, found: TaskData) -> NDArray[np.float64]:
    """What the sweep's best trial says of the test days, from the weights that it left in MLflow."""
    best = sweep.best
    assert best is not None
    assert best.spec is not None
    weights = sweep.context.store.local_artifact(best.linked_run_id or best.run_id, schema.WEIGHTS_FILE)
    dataset = found.prepared.dataset(torch.device("cpu"))
    return predict(
        load_weights(best.spec.architecture, weights, base_width=best.spec.training.base_width),
        dataset,
        dataset.rows(found.prepared.split.test),
    )
