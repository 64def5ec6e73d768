"""State of one trial during training: settings, optimizer, random states and history.

A training has one trial, or several whose models are stacked. The state of a trial does not depend on the others: it equals
that of the same trial trained alone.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
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
    """Measurements of one epoch, counted from 1."""

    epoch: int
    train_loss: float
    """Mean over the epoch's batches, with dropout."""
    val_loss: float
    learning_rate: float
    """Learning rate of the epoch's last step."""
    gradient_norm: float
    """Mean norm before clipping."""
    seconds: float
    """Training time without evaluation; for trials trained side by side, an equal share of it."""


class DivergedError(RuntimeError):
    """The loss is not finite or has exploded."""

    def __init__(self, epoch: int, what: str):
        super().__init__(f"{what} in epoch {epoch}")
        self.epoch, self.what = epoch, what

    def __reduce__(self) -> tuple[type[DivergedError], tuple[int, str]]:
        """Pickle by both arguments, so that the error can be sent between processes."""
        return DivergedError, (self.epoch, self.what)


def raise_if_diverged(loss: float, epoch: int, name: str) -> None:
    """Raise `DivergedError` if the loss is not finite or has exploded."""
    if not math.isfinite(loss) or loss > EXPLODED_LOSS:
        raise DivergedError(epoch, f"{name} is {loss:.3g}")


@dataclass(kw_only=True)
class TrainingHistory:
    """The epochs of a training so far, with the logits and weights of the best one."""

    records: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best_logits: NDArray[np.float64] = field(default_factory=lambda: np.array([]))
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """Kept on the CPU: a second copy on the device would halve the largest model that fits."""

    def add(self, record: EpochRecord, logits: NDArray[np.float64], weights: Iterable[tuple[str, Tensor]]) -> None:
        """Add an epoch, and keep its logits and weights if it is the best so far."""
        best_loss = self.records[self.best_epoch - 1].val_loss if self.best_epoch else math.inf
        if record.val_loss < best_loss:
            self.best_logits = logits
            self.add_best(record, weights)
        else:
            self.records.append(record)

    def add_best(self, record: EpochRecord, weights: Iterable[tuple[str, Tensor]]) -> None:
        """Add an epoch as the best one. Weights overwrite the earlier best: a third copy would cost as much as the model."""
        self.records.append(record)
        self.best_epoch = record.epoch
        for name, value in weights:
            if name in self.best_weights:
                self.best_weights[name].copy_(value.detach())
            else:
                self.best_weights[name] = value.detach().to("cpu", copy=True)


class TrialState:
    """Settings, optimizer, random states and history of one trial.

    `weights` are the parameters of its model by name, or its part of a stack's. `rows` are the numbers of training and
    validation rows.
    """

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
        # Two generators: neither the data order nor dropout depends on how often the other is drawn.
        self.order = torch.Generator()
        self.noise = torch.Generator(self.device)
        self.restart()

    def restart(self) -> None:
        """Clear the history and set the random states from the seed."""
        self.history = TrainingHistory()
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
        """Number of the next epoch, from 1."""
        return len(self.history.records) + 1

    @property
    def is_over(self) -> bool:
        """Whether all epochs are done or patience is exhausted."""
        done = len(self.history.records)
        return done >= self.spec.epochs or done - self.history.best_epoch >= self.spec.patience

    def set_rate(self, step: int) -> float:
        """Set and return the learning rate for a step of the next epoch, counted from 0."""
        return self.schedule.set((self.epoch - 1) * self.steps_per_epoch + step)

    def update(self) -> Tensor:
        """Take one optimizer step with the gradients of the weights; return their norm before clipping."""
        if isinstance(self.optimizer, Adafactor):
            # Every weight was updated during backward.
            return self.optimizer.gradient_norm()
        assert self._clipped is not None
        return self._clipped.step()

    def record_epoch(self, record: EpochRecord, logits: NDArray[np.float64]) -> None:
        """Add a finished epoch to the history."""
        self.history.add(record, logits, self.gather(self.weights))

    def gather(self, tensors: Mapping[str, Tensor]) -> Iterable[tuple[str, Tensor]]:
        """Yield weights or moments by name, each whole, as they are stored outside of the training."""
        return tensors.items()

    def local_part(self, value: Tensor, weight: Tensor) -> Tensor:
        """Return the part of a stored weight or moment that this process trains."""
        return value

    def rebind(self, weights: Mapping[str, Tensor]) -> None:
        """Continue with the same values in other tensors, after another trial has left the stack."""
        state = self.optimizer.state_dict()
        self.weights = weights
        self.optimizer = self._new_optimizer()
        # Before the state is loaded: the state holds the last step's rate, while the schedule starts from the peak.
        self.schedule = WarmupCosine(self.optimizer, self.schedule.warmup_steps, self.schedule.total_steps)
        self.optimizer.load_state_dict(state)

    def applied(self) -> dict[str, Any]:
        """Return the training parameters, read back from the objects that use them."""
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
        """Fingerprint of architecture, settings and row counts; a checkpoint of another identity is not continued."""
        rows = {"train": self.rows[0], "validation": self.rows[1]}
        return fingerprint({"architecture": self.architecture, "training": self.spec, **rows})

    def checkpoint(self, micro_batch: int) -> Checkpoint:
        """Return everything needed to continue, in another process or in another stack."""
        improved = self.history.best_epoch == len(self.history.records)
        moments = {
            f"{index}.{name}": value
            for index, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        return Checkpoint(
            tensors={
                **pack("model", self.gather(self.weights)),
                # If the last epoch is the best, its weights would be in the file twice.
                **({} if improved else pack("best", self.history.best_weights.items())),
                **pack("optimizer", self.gather(moments)),
                **pack("random", [("order", self.order.get_state()), ("noise", self.noise.get_state())]),
                "best_logits": torch.from_numpy(self.history.best_logits),
            },
            notes={
                "identity": self.identity,
                "records": [asdict(record) for record in self.history.records],
                "best_epoch": self.history.best_epoch,
                "micro_batch": micro_batch,
            },
        )

    def restore(self, checkpoint: Checkpoint) -> None:
        """Set weights, moments, random states and history to a checkpoint's."""
        with torch.no_grad():
            for name, value in checkpoint.part("model").items():
                self.weights[name].copy_(self.local_part(value, self.weights[name]))
        parameters = [p for group in self.optimizer.param_groups for p in group["params"]]
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in checkpoint.part("optimizer").items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = self.local_part(value, parameters[int(index)])
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        random_states = checkpoint.part("random")
        self.order.set_state(random_states["order"])
        self.noise.set_state(random_states["noise"])
        self.history = TrainingHistory(
            records=[EpochRecord(**record) for record in checkpoint.notes["records"]],
            best_epoch=checkpoint.notes["best_epoch"],
            best_logits=checkpoint.tensors["best_logits"].numpy(),
            best_weights=checkpoint.part("best") or checkpoint.part("model"),
        )
