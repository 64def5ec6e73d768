"""The two controls: a market with a planted signal, which must be data, and one with shuffled labels and no signal."""

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
"""Required reduction of the loss, as a share of the distance from the training prior to the Bayes loss."""


@dataclass(frozen=True, kw_only=True)
class ControlExperiment:
    """Result of one control on test days that were used neither for training nor for the choice of a trial."""

    title: str
    planted: bool
    sweep_run: str
    settings: dict[str, Value]
    """Market, target and size of the sweep."""
    days: int
    losses: dict[str, float]
    """Test loss of the baselines and of the best trial (`best`)."""
    bayes: BayesLoss
    against_prior: Difference
    against_volatility: Difference

    @property
    def share(self) -> float:
        """Return the reduction of the loss as a share of the possible one: 0 at the prior, 1 at the Bayes loss."""
        prior = self.losses["prior"]
        return (prior - self.losses["best"]) / (prior - self.bayes.realised)

    @property
    def passed(self) -> bool:
        """Return whether the control passed."""
        if not self.planted:
            return self.against_prior.high >= 0
        return self.against_prior.high < 0 and self.against_volatility.high < 0 and self.share >= NEAR

    @property
    def verdict(self) -> str:
        """Return the result as one sentence."""
        prior = self.against_prior
        gap = f"{prior.mean:+.4f} [{prior.low:+.4f}, {prior.high:+.4f}] nats against the training prior"
        if not self.planted:
            return f"no signal: {gap}" if self.passed else f"a signal where there is none: {gap}"
        if self.passed:
            return f"the signal was data: {gap}, {self.share:.0%} of the way to the Bayes loss"
        return f"the signal was missed: {gap}, {self.share:.0%} of the way to the Bayes loss, {NEAR:.0%} is required"


def examine(title: str, sweep: Sweep, options: SweepOptions) -> ControlExperiment:
    """Evaluate a finished sweep on the test days of its synthetic market."""
    task = sweep.context.task
    data = assemble(options, task.snapshot.bars, digest=task.snapshot.digest, source="synthetic")
    (part,) = data.prepared.parts
    labels, bars = data.prepared.labels_of("test"), task.snapshot.of(part.symbol)
    rows = baseline_rows(data, "test")
    logits = {name: logits_of(baseline(rows)) for name, baseline in BASELINES.items()}
    logits["best"] = _best_logits(sweep, data)
    losses = {name: row_losses(values, labels) for name, values in logits.items()}
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
        losses={name: float(loss.mean()) for name, loss in losses.items()},
        bayes=bayes_loss(bars, part.target.spec, data.prepared.split.test),
        against_prior=paired_difference(losses["best"], losses["prior"]),
        against_volatility=paired_difference(losses["best"], losses["volatility"]),
    )


def _best_logits(sweep: Sweep, data: TaskData) -> NDArray[np.float64]:
    """Return the best trial's logits on the test days, from its weights in MLflow."""
    best = sweep.best
    assert best is not None
    assert best.spec is not None
    weights = sweep.context.store.local_artifact(best.linked_run_id or best.run_id, schema.WEIGHTS_FILE)
    dataset = data.prepared.dataset(torch.device("cpu"))
    return predict(
        load_weights(best.spec.architecture, weights, base_width=best.spec.training.base_width),
        dataset,
        dataset.rows(data.prepared.split.test),
    )
