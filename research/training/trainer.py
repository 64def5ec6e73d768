"""Trains one model. Knows no tracking and no search: it reports to a listener.

Shapes: B batch, T context days, F features.
"""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from research.models.patch_transformer import PatchTransformer
from research.runtime import PeakMemory, Runtime, seed_everything
from research.spec import ArchitectureSpec, TrainingSpec, require
from research.training.metrics import row_losses
from research.training.optim import WarmupCosine, build_optimizer
from research.windows.dataset import WindowDataset
from research.windows.splits import Split

EVALUATION_BATCH = 512
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

    def on_epoch(self, record: EpochRecord) -> None:
        """Called after each epoch's evaluation."""


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

    def run(self, listener: Listener) -> TrainingResult:
        """Train until the epochs or the patience end; restore the best epoch's weights.

        Raises `DivergedError` when the loss stops being finite.
        """
        seed_everything(self.spec.seed)
        order = torch.Generator().manual_seed(self.spec.seed)
        memory = PeakMemory(self._device)
        records: list[EpochRecord] = []
        best_epoch, best_logits = 0, np.array([])
        best_weights: dict[str, Tensor] = {}
        for epoch in range(1, self.spec.epochs + 1):
            record, logits = self._epoch(epoch, order)
            records.append(record)
            if best_epoch == 0 or record.val_loss < records[best_epoch - 1].val_loss:
                best_epoch, best_logits = epoch, logits
                best_weights = {name: value.detach().clone() for name, value in self.model.state_dict().items()}
            listener.on_epoch(record)
            if epoch - best_epoch >= self.spec.patience:
                break
        self.model.load_state_dict(best_weights)
        trained = len(self._train_rows) * len(records)
        return TrainingResult(
            epochs=records,
            best_epoch=best_epoch,
            val_logits=best_logits,
            samples_per_second=trained / sum(record.seconds for record in records),
            peak_memory_bytes=memory.read(),
        )

    def _epoch(self, epoch: int, order: torch.Generator) -> tuple[EpochRecord, NDArray[np.float64]]:
        started = time.perf_counter()
        self.model.train()
        rows = self._train_rows[torch.randperm(len(self._train_rows), generator=order).to(self._device)]
        loss_sum = torch.zeros((), device=self._device)
        norm_sum = torch.zeros((), device=self._device)
        rate = 0.0
        for number, rows_B in enumerate(torch.split(rows, self.batch_size)):
            rate = self.schedule.set((epoch - 1) * self.steps_per_epoch + number)
            loss, norm = self._step(rows_B)
            loss_sum += loss * len(rows_B)
            norm_sum += norm
        # The one synchronisation with the device per epoch.
        train_loss, gradient_norm = (loss_sum / len(rows)).item(), (norm_sum / self.steps_per_epoch).item()
        seconds = time.perf_counter() - started
        _require_sane(train_loss, epoch, "training loss")
        logits = self.predict(self._val_rows)
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
            logits_B = self.model(x_BTF)
            part = F.binary_cross_entropy_with_logits(logits_B, y_B, reduction="sum") / len(rows_B)
            part.backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.gradient_clip)
        self.optimizer.step()
        return loss, norm

    @torch.no_grad()
    def predict(self, rows: Tensor) -> NDArray[np.float64]:
        """Logits of the given rows, without dropout."""
        self.model.eval()
        parts = [self.model(self.dataset.gather(rows_B)[0]) for rows_B in torch.split(rows, EVALUATION_BATCH)]
        return torch.cat(parts).cpu().double().numpy()


def _require_sane(loss: float, epoch: int, what: str) -> None:
    if not math.isfinite(loss) or loss > EXPLODED_LOSS:
        raise DivergedError(epoch, f"{what} is {loss:.3g}")
