"""Trains one model. Knows no tracking and no search: it reports to a listener.

Shapes: B batch, T context days, F features.
"""

from __future__ import annotations

import math
import time
import warnings
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from safetensors import SafetensorError
from torch import Tensor, nn

from research.models.patch_transformer import PatchTransformer
from research.runtime import PeakMemory, Runtime, seed_everything
from research.spec import ArchitectureSpec, TrainingSpec, fingerprint, require
from research.training.checkpoint import Checkpoint, pack, random_states, restore_random_states
from research.training.metrics import row_losses
from research.training.optim import WarmupCosine, build_optimizer
from research.windows.dataset import WindowDataset, predict
from research.windows.splits import Split

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


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A finished training; the model holds the weights of the best epoch."""

    epochs: list[EpochRecord]
    best_epoch: int
    val_logits: NDArray[np.float64]
    """Of the best epoch, one per validation row."""
    samples_per_second: float
    """Training windows per second of training time, evaluation left out."""
    peak_memory_bytes: int
    micro_batch: int
    """Windows per forward pass that were in use at the end."""

    @property
    def val_loss(self) -> float:
        """Validation loss of the best epoch, the objective of a sweep."""
        return self.epochs[self.best_epoch - 1].val_loss


class DivergedError(RuntimeError):
    """The loss is not finite or has exploded."""

    def __init__(self, epoch: int, what: str):
        super().__init__(f"{what} in epoch {epoch}")
        self.epoch = epoch


class Listener(Protocol):
    """Whoever wants to know how training goes."""

    def on_step(self, step: int) -> None:
        """Called after each optimizer step, counted from 1 over all epochs; must return at once."""

    def on_epoch(self, record: EpochRecord) -> None:
        """Called after each epoch's evaluation, and for each epoch that a checkpoint brought back."""


@dataclass(kw_only=True)
class Progress:
    """How far a training has come."""

    records: list[EpochRecord] = field(default_factory=list)
    best_epoch: int = 0
    best_logits: NDArray[np.float64] = field(default_factory=lambda: np.array([]))
    best_weights: dict[str, Tensor] = field(default_factory=dict)
    """On the CPU: a second copy on the device would halve the largest model that fits."""

    def keep(self, weights: Mapping[str, Tensor]) -> None:
        """Copy the weights, over the last best ones where there are any: a third copy would cost as much as the model."""
        for name, value in weights.items():
            if name in self.best_weights:
                self.best_weights[name].copy_(value)
            else:
                self.best_weights[name] = value.detach().to("cpu", copy=True)

    @property
    def best_loss(self) -> float:
        """Lowest validation loss so far."""
        return self.records[self.best_epoch - 1].val_loss if self.best_epoch else math.inf


def build_model(architecture: ArchitectureSpec, training: TrainingSpec, device: torch.device) -> PatchTransformer:
    """A freshly initialised model; its weights depend on the seed alone, on every device."""
    seed_everything(training.seed)
    return PatchTransformer(architecture, training.dropout).to(device)


class Trainer:
    """One model, its optimizer, schedule and data order, built from a spec and inspectable before the first step."""

    def __init__(self, model: PatchTransformer, dataset: WindowDataset, split: Split, spec: TrainingSpec, runtime: Runtime):
        self.model = model
        self.dataset = dataset
        self.spec = spec
        self.batch_size = spec.batch_size
        self.micro_batch = min(runtime.micro_batch or spec.batch_size, spec.batch_size)
        self.steps_per_epoch = math.ceil(len(split.train) / spec.batch_size)
        total_steps = spec.epochs * self.steps_per_epoch
        require(
            spec.warmup_steps < total_steps,
            "warmup_steps",
            spec.warmup_steps,
            f"training has only {total_steps} steps; give more EPOCHS or fewer warm-up steps.",
        )
        self.optimizer = build_optimizer(model, spec)
        self.schedule = WarmupCosine(self.optimizer, spec.warmup_steps, total_steps)
        self._train_rows = dataset.rows(split.train)
        self._val_rows = dataset.rows(split.validation)
        self._val_labels = dataset.labels_R[self._val_rows].cpu().numpy().astype(np.int8)
        self._device = runtime.device

    def applied(self) -> dict[str, Any]:
        """The training parameters read back from the objects that use them, for the record of a run."""
        dropouts = {module.p for module in self.model.modules() if isinstance(module, nn.Dropout)}
        assert len(dropouts) == 1
        return {
            "learning_rate": self.schedule.peak,
            "weight_decay": self.optimizer.param_groups[0]["weight_decay"],
            "dropout": dropouts.pop(),
            "warmup_steps": self.schedule.warmup_steps,
            "batch_size": self.batch_size,
            "epochs": self.schedule.total_steps // self.steps_per_epoch,
            "seed": self.spec.seed,
            "patience": self.spec.patience,
            "gradient_clip": self.spec.gradient_clip,
        }

    def run(self, listener: Listener, checkpoint: Path | None = None) -> TrainingResult:
        """Train until the epochs or the patience end; restore the best epoch's weights.

        With a `checkpoint` path the whole state is written there after every epoch, and a state found there is
        continued: the result is then, to the bit, that of a training that never stopped.

        Raises `DivergedError` when the loss stops being finite.
        """
        seed_everything(self.spec.seed)
        order = torch.Generator().manual_seed(self.spec.seed)
        memory = PeakMemory(self._device)
        progress = self._restored(checkpoint, order)
        for record in progress.records:
            listener.on_epoch(record)
        while not self._is_over(progress):
            self._next_epoch(progress, order, listener)
            if checkpoint:
                self._save(progress, order, checkpoint)
            listener.on_epoch(progress.records[-1])
        self.model.load_state_dict(progress.best_weights)
        trained = len(self._train_rows) * len(progress.records)
        return TrainingResult(
            epochs=progress.records,
            best_epoch=progress.best_epoch,
            val_logits=progress.best_logits,
            samples_per_second=trained / sum(record.seconds for record in progress.records),
            peak_memory_bytes=memory.read(),
            micro_batch=self.micro_batch,
        )

    def _is_over(self, progress: Progress) -> bool:
        done = len(progress.records)
        return done >= self.spec.epochs or done - progress.best_epoch >= self.spec.patience

    def _next_epoch(self, progress: Progress, order: torch.Generator, listener: Listener) -> None:
        record, logits = self._epoch(len(progress.records) + 1, order, listener)
        if record.val_loss < progress.best_loss:
            progress.best_epoch, progress.best_logits = record.epoch, logits
            progress.keep(self.model.state_dict())
        progress.records.append(record)

    def _save(self, progress: Progress, order: torch.Generator, path: Path) -> None:
        try:
            self._state(progress, order).save(path)
        except (OSError, SafetensorError) as problem:
            # A full disk must not cost the trial: it only loses the place to go on from.
            warnings.warn(f"epoch {len(progress.records)}: no checkpoint could be written ({problem})", stacklevel=2)

    @property
    def _identity(self) -> str:
        """What a checkpoint must have been written for."""
        rows = {"train": len(self._train_rows), "validation": len(self._val_rows)}
        return fingerprint({"architecture": self.model.architecture, "training": self.spec, **rows})

    def _state(self, progress: Progress, order: torch.Generator) -> Checkpoint:
        improved = progress.best_epoch == len(progress.records)
        moments = {
            f"{index}.{name}": value
            for index, state in self.optimizer.state_dict()["state"].items()
            for name, value in state.items()
        }
        return Checkpoint(
            tensors={
                **pack("model", self.model.state_dict()),
                # The weights of an epoch that is the best so far would stand in the file twice.
                **({} if improved else pack("best", progress.best_weights)),
                **pack("optimizer", moments),
                **pack("random", {**random_states(self._device), "order": order.get_state()}),
                "best_logits": torch.from_numpy(progress.best_logits),
            },
            notes={
                "identity": self._identity,
                "records": [asdict(record) for record in progress.records],
                "best_epoch": progress.best_epoch,
                "micro_batch": self.micro_batch,
            },
        )

    def _restored(self, path: Path | None, order: torch.Generator) -> Progress:
        """The progress in the checkpoint, with model, optimizer and random states set to it; else a fresh start."""
        found = Checkpoint.load(path) if path else None
        if found is None or found.notes["identity"] != self._identity:
            return Progress()
        self.model.load_state_dict(found.part("model"))
        moments: dict[int, dict[str, Tensor]] = {}
        for name, value in found.part("optimizer").items():
            index, _, key = name.partition(".")
            moments.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": moments})
        states = found.part("random")
        restore_random_states(states, self._device)
        order.set_state(states["order"])
        # Another micro-batch adds up in another order; a smaller one was chosen because memory is short.
        self.micro_batch = min(self.micro_batch, found.notes["micro_batch"])
        return Progress(
            records=[EpochRecord(**record) for record in found.notes["records"]],
            best_epoch=found.notes["best_epoch"],
            best_logits=found.tensors["best_logits"].numpy(),
            best_weights=found.part("best") or found.part("model"),
        )

    def _epoch(self, epoch: int, order: torch.Generator, listener: Listener) -> tuple[EpochRecord, NDArray[np.float64]]:
        started = time.perf_counter()
        self.model.train()
        rows = self._train_rows[torch.randperm(len(self._train_rows), generator=order).to(self._device)]
        loss_sum = torch.zeros((), device=self._device)
        norm_sum = torch.zeros((), device=self._device)
        rate = 0.0
        steps_before = (epoch - 1) * self.steps_per_epoch
        for number, rows_B in enumerate(torch.split(rows, self.batch_size)):
            rate = self.schedule.set(steps_before + number)
            loss, norm = self._step(rows_B)
            loss_sum += loss * len(rows_B)
            norm_sum += norm
            listener.on_step(steps_before + number + 1)
        # The one synchronisation with the device per epoch.
        train_loss, gradient_norm = (loss_sum / len(rows)).item(), (norm_sum / self.steps_per_epoch).item()
        seconds = time.perf_counter() - started
        _require_sane(train_loss, epoch, "training loss")
        logits = predict(self.model, self.dataset, self._val_rows)
        val_loss = float(row_losses(logits, self._val_labels).mean())
        _require_sane(val_loss, epoch, "validation loss")
        record = EpochRecord(
            epoch=epoch,
            train_loss=train_loss,
            val_loss=val_loss,
            learning_rate=rate,
            gradient_norm=gradient_norm,
            seconds=seconds,
        )
        return record, logits

    def _step(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step; micro-batches add up to the gradient of the whole batch."""
        self.optimizer.zero_grad(set_to_none=True)
        loss = torch.zeros((), device=self._device)
        for micro_rows in torch.split(rows_B, self.micro_batch):
            x_BTF, y_B = self.dataset.gather(micro_rows)
            logits_B = self.model(x_BTF, self.dataset.symbols_R[micro_rows])
            part = F.binary_cross_entropy_with_logits(logits_B, y_B, reduction="sum") / len(rows_B)
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.gradient_clip)
        self.optimizer.step()
        return loss, norm


def _require_sane(loss: float, epoch: int, what: str) -> None:
    if not math.isfinite(loss) or loss > EXPLODED_LOSS:
        raise DivergedError(epoch, f"{what} is {loss:.3g}")
