"""One trial within a training: its settings, its optimizer, its random states and how far it has come.

A training has one member, or several whose models are stacked. Nothing here depends on the others: a member's state is that
of the same trial trained alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from research.errors import require
from research.fingerprint import fingerprint
from research.spec import ArchitectureSpec, TrainingSpec
from research.training.checkpoint import Checkpoint, pack
from research.training.clipped_adamw import ClippedAdamW
from research.training.low_memory import Adafactor
from research.training.optim import WarmupCosine, build_optimizer, keep_on_device

EXPLODED_LOSS = 10.0
"""Mean log loss in nats above which training counts as diverged; guessing costs 0.69."""


@dataclass(frozen=True, kw_only=True)
class EpochRecord:
    """What happened in one epoch, counted from 1."""

    epoch: int
    train_loss: float
    """Mean over the epoch's batches, with dropout."""
    val_loss: float
    learning_rate: float
    """Of the epoch's last step."""
    gradient_norm: float
    """Mean norm before clipping."""
    seconds: float
    """Of training, evaluation left out; of several trials trained side by side, this one's equal share."""


class DivergedError(RuntimeError):
    """The loss is not finite or has exploded."""

    def __init__(self, epoch: int, what: str):
        super().__init__(f"{what} in epoch {epoch}")
        self.epoch, self.what = epoch, what

    def __reduce__(self) -> tuple[type[DivergedError], tuple[int, str]]:
        """How it is sent from one process to another."""
        return DivergedError, (self.epoch, self.what)


@dataclass(kw_only=True)
class TrainingHistory:
    """How far a training has come."""

    records: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best_logits: NDArray[np.float64] = field(default_factory=lambda: np.array([]))
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """On the CPU: a second copy on the device would halve the largest model that fits."""

    def add(self, record: EpochRecord, logits: NDArray[np.float64], weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take an epoch in, and its weights if it is the best so far."""
        if record.val_loss < self.best_loss:
            self.best_logits = logits
            self.take(record, weights)
        else:
            self.records.append(record)

    def take(self, record: EpochRecord, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Take an epoch in as the best."""
        self.best_epoch = record.epoch
        self._keep(weights)
        self.records.append(record)

    def _keep(self, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Copy the weights, over the last best ones where there are any: a third copy would cost as much as the model."""
        for name, value in weights:
            if name in self.best_weights:
                self.best_weights[name].copy_(value.detach())
            else:
                self.best_weights[name] = value.detach().to("cpu", copy=True)

    @property
    def best_loss(self) -> float:
        """Lowest validation loss so far."""
        return self.records[self.best_epoch - 1].val_loss if self.best_epoch else math.inf


class TrialState:
    """What belongs to one trial; `weights` are its model's parameters by name, or its part of a stack's."""

    def __init__(
        self, architecture: ArchitectureSpec, spec: TrainingSpec, weights: Mapping[str, Tensor], *, rows: tuple[int, int]
    ):
        self.architecture = architecture
        self.spec = spec
        self.rows = rows
        self.steps_per_epoch = math.ceil(rows[0] / spec.batch_size)
        total_steps = spec.epochs * self.steps_per_epoch
        require(
            spec.warmup_steps < total_steps,
            "warmup_steps",
            spec.warmup_steps,
            f"training has only {total_steps} steps; give more EPOCHS or fewer warm-up steps.",
        )
        self.device = next(iter(weights.values())).device
        self.weights = weights
        self._clipped: ClippedAdamW | None = None
        self.optimizer = self._new_optimizer()
        self.schedule = WarmupCosine(self.optimizer, spec.warmup_steps, total_steps)
        self.order = torch.Generator()
        self.noise = torch.Generator(self.device)
        self.restart()

    def restart(self) -> None:
        """No epoch done, random states as the seed says. Order and dropout are drawn apart: neither depends on the other."""
        self.progress = TrainingHistory()
        self.order.manual_seed(self.spec.seed)
        self.noise.manual_seed(self.spec.seed)

    def _new_optimizer(self) -> torch.optim.AdamW | Adafactor:
        if self.spec.optimizer == "adafactor":
            return Adafactor(self.weights.items(), self.spec, self.architecture)
        optimizer = build_optimizer(self.weights.items(), self.spec, self.architecture)
        if self.device.type == "cuda":
            keep_on_device(optimizer, self.device)
        self._clipped = ClippedAdamW(optimizer, list(self.weights.values()), self.spec.gradient_clip)
        return optimizer

    @property
    def epoch(self) -> int:
        """Number of the epoch that comes next, from 1."""
        return len(self.progress.records) + 1

    @property
    def is_over(self) -> bool:
        """Whether its epochs or its patience have ended."""
        done = len(self.progress.records)
        return done >= self.spec.epochs or done - self.progress.best_epoch >= self.spec.patience

    def set_rate(self, number: int) -> float:
        """Set and return the learning rate for a step of the coming epoch, counted from 0."""
        return self.schedule.set((self.epoch - 1) * self.steps_per_epoch + number)

    def update(self) -> Tensor:
        """One optimizer step from the gradients that the weights hold; their norm before clipping."""
        if isinstance(self.optimizer, Adafactor):
            # Each weight was updated the moment its gradient was there.
            return self.optimizer.gradient_norm()
        assert self._clipped is not None
        return self._clipped.step()

    def note(self, record: EpochRecord, logits: NDArray[np.float64]) -> None:
        """Take in the epoch that has ended."""
        self.progress.add(record, logits, self.gathered(self.weights))

    def gathered(self, tensors: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
        """Weights or moments as they are kept outside of the training, one after the other."""
        return tensors.items()

    def placed(self, value: Tensor, weight: Tensor) -> Tensor:
        """What was kept of a weight, or of a moment of it, as the training holds it."""
        return value

    def rebind(self, weights: Mapping[str, Tensor]) -> None:
        """Go on with the same values in other tensors, as after another member has left the stack."""
        state = self.optimizer.state_dict()
        self.weights = weights
        self.optimizer = self._new_optimizer()
        # Before the state is loaded: that brings the last step's rate, and the schedule starts from the peak.
        self.schedule = WarmupCosine(self.optimizer, self.schedule.warmup_steps, self.schedule.total_steps)
        self.optimizer.load_state_dict(state)

    def applied(self) -> dict[str, Any]:
        """The training parameters read back from the objects that use them, for the record of a run."""
        return {
            "learning_rate": self.schedule.peak,
            "weight_decay": self.optimizer.param_groups[0]["weight_decay"],
            "optimizer": type(self.optimizer).__name__.lower(),
            "warmup_steps": self.schedule.warmup_steps,
            "epochs": self.schedule.total_steps // self.steps_per_epoch,
            "seed": self.spec.seed,
            "patience": self.spec.patience,
            "gradient_clip": self.spec.gradient_clip,
        }

    @property
    def identity(self) -> str:
        """What a checkpoint must have been written for."""
        rows = {"train": self.rows[0], "validation": self.rows[1]}
        return fingerprint({"architecture": self.architecture, "training": self.spec, **rows})

    def state(self, micro_batch: int) -> Checkpoint:
        """All that is needed to go on, in a process of its own or in another stack."""
        improved = self.progress.best_epoch == len(self.progress.records)
        moments = {
            f"{index}.{name}": value
            for index, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        return Checkpoint(
            tensors={
                **pack("model", self.gathered(self.weights)),
                # The weights of an epoch that is the best so far would stand in the file twice.
                **({} if improved else pack("best", self.progress.best_weights.items())),
                **pack("optimizer", self.gathered(moments)),
                **pack("random", [("order", self.order.get_state()), ("noise", self.noise.get_state())]),
                "best_logits": torch.from_numpy(self.progress.best_logits),
            },
            notes={
                "identity": self.identity,
                "records": [asdict(record) for record in self.progress.records],
                "best_epoch": self.progress.best_epoch,
                "micro_batch": micro_batch,
            },
        )

    def restore(self, found: Checkpoint) -> None:
        """Set weights, moments, random states and progress to a checkpoint's."""
        with torch.no_grad():
            for name, value in found.part("model").items():
                self.weights[name].copy_(self.placed(value, self.weights[name]))
        trained = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in found.part("optimizer").items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = self.placed(value, trained[int(index)])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        states = found.part("random")
        self.order.set_state(states["order"])
        self.noise.set_state(states["noise"])
        self.progress = TrainingHistory(
            records=[EpochRecord(**record) for record in found.notes["records"]],
            best_epoch=found.notes["best_epoch"],
            best_logits=found.tensors["best_logits"].numpy(),
            best_weights=found.part("best") or found.part("model"),
        )


def require_alike(specs: Sequence[TrainingSpec]) -> None:
    """Models that are trained as one take the same number of windows per step."""
    assert len({spec.batch_size for spec in specs}) == 1


def require_sane(loss: float, epoch: int, what: str) -> None:
    """Raise `DivergedError` for a loss that is no number or has exploded."""
    if not math.isfinite(loss) or loss > EXPLODED_LOSS:
        raise DivergedError(epoch, f"{what} is {loss:.3g}")
