"""Training of one model, or of a stack of models as one. Knows no tracking and no search: events go to a listener.

A training reads from `run_all` down: an epoch (`_run_epoch`), its pass over the rows (`_train_epoch`), a step (`_take_step`).

Shapes: K trials trained side by side (an axis that a single trial does not have, written `...`), B batch, R training rows,
T context days, F features.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from research.evaluation.metrics import row_losses
from research.models.patch_transformer import PatchTransformer, stacked
from research.runtime import PeakMemory, Runtime, seed_everything
from research.spec import ArchitectureSpec, TrainingSpec
from research.task.splits import Split
from research.task.windows import WindowDataset, predict
from research.training.checkpoint import Checkpoint, Writer
from research.training.compiled import compile_blocks, compiles
from research.training.low_memory import low_memory_model
from research.training.precision import autocast
from research.training.step_graph import Step, StepGraph
from research.training.trial_state import DivergedError, EpochRecord, TrainingHistory, TrialState, raise_if_diverged

Logits = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A finished training."""

    epochs: list[EpochRecord]
    best_epoch: int
    val_logits: Logits
    """Logits of the best epoch, one per validation row."""
    weights: dict[str, Tensor]
    """Weights of the best epoch, on the CPU."""
    samples_per_second: float
    """Training windows per second of training time, without evaluation."""
    peak_memory_bytes: int
    """Peak memory of the process, which trials trained side by side share; of several devices, that of the fullest one."""
    micro_batch: int
    """Windows per forward pass at the end of training, on each device."""
    side_by_side: int
    """Trials in the stack at the start."""
    devices: int = 1
    """Devices that shared the trial."""

    @property
    def val_loss(self) -> float:
        """Validation loss of the best epoch, the objective of a sweep."""
        return self.epochs[self.best_epoch - 1].val_loss


class TrialOver(Exception):  # noqa: N818
    """Raised by a listener to end its own trial early; the other trials of a stack continue."""


class Listener(Protocol):
    """Receives the events of one trial."""

    def on_step(self, step: int) -> None:
        """Handle an optimizer step, counted from 1 over all epochs; must return at once."""

    def on_epoch(self, record: EpochRecord) -> None:
        """Handle an epoch after its evaluation; epochs restored from a checkpoint are repeated."""


TrainingEnd = TrainingResult | DivergedError | TrialOver


@dataclass(kw_only=True, eq=False)
class RunningTrial:
    """A trial in training, with its listener and the path of its checkpoint."""

    state: TrialState
    listener: Listener
    checkpoint: Path | None
    end: TrainingEnd | None = None

    @contextmanager
    def capture_end(self) -> Iterator[None]:
        """Record divergence or a stop by the listener as the end of this trial only."""
        try:
            yield
        except (DivergedError, TrialOver) as end:
            self.end = end


def build_model(architecture: ArchitectureSpec, training: TrainingSpec, device: torch.device) -> PatchTransformer:
    """Return a freshly initialised model; its weights depend on the seed alone, on every device."""
    seed_everything(training.seed)
    if training.optimizer == "adafactor":
        return low_memory_model(architecture, training.dropout, base_width=training.base_width).to(device)
    return PatchTransformer(architecture, training.dropout, base_width=training.base_width).to(device)


def build_stack(architecture: ArchitectureSpec, trainings: Sequence[TrainingSpec], device: torch.device) -> PatchTransformer:
    """Return the models of several trials as one; each has the initial weights that it would have alone."""
    return stacked([build_model(architecture, training, device) for training in trainings])


class Trainer:
    """A model, its optimizers, schedules and data orders, built from specs and inspectable before the first step."""

    state_type: type[TrialState] = TrialState

    def __init__(
        self,
        model: PatchTransformer,
        dataset: WindowDataset,
        split: Split,
        specs: TrainingSpec | Sequence[TrainingSpec],
        runtime: Runtime,
    ):
        specs = (specs,) if isinstance(specs, TrainingSpec) else tuple(specs)
        assert model.copies in ((), (len(specs),))
        assert len({spec.batch_size for spec in specs}) == 1
        self.model = model
        self.dataset = dataset
        self.batch_size = specs[0].batch_size
        self.micro_batch = min(runtime.micro_batch or self.batch_size, self.batch_size)
        self._device = runtime.device
        self._writer = Writer(runtime.device)
        self._precision = runtime.precision
        # A low-memory step updates weights during backward and counts on the host, which a graph cannot record.
        self._use_graph = runtime.compile and runtime.device.type == "cuda" and not model.recompute
        if runtime.compile and compiles(runtime.device):
            compile_blocks(model)
        self._train_rows = dataset.rows(split.train)
        self._val_rows = dataset.rows(split.validation)
        self._val_labels = dataset.labels_R[self._val_rows].cpu().numpy().astype(np.int8)
        rows = (len(split.train), len(split.validation))
        self._set_states(
            [self.state_type(model.architecture, spec, self._weights_of(index), rows=rows) for index, spec in enumerate(specs)]
        )

    def applied(self, index: int = 0) -> dict[str, Any]:
        """Return the training parameters of one trial, read back from the objects that use them."""
        return {
            **self.states[index].applied(),
            "dropout": self.model.dropout.rates[index],
            "batch_size": self.batch_size,
        }

    def run(self, listener: Listener, checkpoint: Path | None = None) -> TrainingResult:
        """Train a single trial until its epochs or its patience end, and restore the best epoch's weights.

        With a `checkpoint` path the whole state is written there after every epoch. A state found there is
        continued: the result is then, to the bit, that of a training that never stopped.

        Raises `DivergedError` when the loss stops being finite.
        """
        (end,) = self.run_all([listener], [checkpoint])
        if isinstance(end, Exception):
            raise end
        if not self.model.copies:
            self.model.load_state_dict(end.weights)
        return end

    def run_all(
        self,
        listeners: Sequence[Listener],
        checkpoints: Sequence[Path | None],
        on_end: Callable[[int, TrainingEnd], None] = lambda *_: None,
    ) -> list[TrainingEnd]:
        """Train all trials side by side, each to its own end and independently of the others.

        `on_end` receives the index and the end of each trial as soon as it ends.
        """
        seed_everything(self.states[0].spec.seed)
        memory = PeakMemory(self._device)
        trials = [
            RunningTrial(state=state, listener=listener, checkpoint=checkpoint)
            for state, listener, checkpoint in zip(self.states, listeners, checkpoints, strict=True)
        ]
        for trial in trials:
            with trial.capture_end():
                self._restore(trial)
        if self._use_graph and self.micro_batch < self.batch_size:
            # A step of several passes draws random bits between them.
            self._use_graph = False
            self._set_states(self.states)
        active = trials
        try:
            while active := self._remove_ended(active, trials, memory, on_end):
                self._run_epoch(active)
        finally:
            self._writer.wait()
        return [trial.end for trial in trials if trial.end is not None]

    def _run_epoch(self, active: list[RunningTrial]) -> None:
        """Train and evaluate one epoch of all active trials, write their checkpoints and call their listeners."""
        began = time.perf_counter()
        losses, norms, rates = self._train_epoch(active)
        seconds = (time.perf_counter() - began) / len(active)
        logits = self._predict()
        for index, trial in enumerate(active):
            with trial.capture_end():
                state = trial.state
                raise_if_diverged(losses[index], state.epoch, "training loss")
                record = EpochRecord(
                    epoch=state.epoch,
                    train_loss=losses[index],
                    val_loss=self._validation_loss(logits[index], state.epoch),
                    learning_rate=rates[index],
                    gradient_norm=norms[index],
                    seconds=seconds,
                )
                state.record_epoch(record, logits[index])
                if trial.checkpoint:
                    self._save(state.checkpoint(self.micro_batch), trial.checkpoint)
                trial.listener.on_epoch(record)

    def _train_epoch(self, active: list[RunningTrial]) -> tuple[list[float], list[float], list[float]]:
        """Pass once over the training rows; return each trial's mean loss, mean gradient norm and last learning rate."""
        self.model.train()
        states = [trial.state for trial in active]
        orders = [torch.randperm(len(self._train_rows), generator=state.order) for state in states]
        order = torch.stack(orders) if self.model.copies else orders[0]
        rows = self._train_rows[order.to(self._device)]
        loss_sum = torch.zeros(self.model.copies, device=self._device)
        norm_sum = torch.zeros(len(states), device=self._device)
        rates: list[float] = []
        for number, rows_B in enumerate(torch.split(rows, self.batch_size, dim=-1)):
            rates = [state.set_rate(number) for state in states]
            loss, norm = self.step(rows_B)
            loss_sum += loss * rows_B.shape[-1]
            norm_sum += norm
            for trial in active:
                trial.listener.on_step((trial.state.epoch - 1) * trial.state.steps_per_epoch + number + 1)
        # The only synchronisation with the device per epoch.
        losses = (loss_sum / rows.shape[-1]).reshape(-1).tolist()
        return losses, (norm_sum / states[0].steps_per_epoch).tolist(), rates

    def _take_step(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Take one optimizer step of all trials; micro-batches add up to the gradient of the whole batch."""
        self.model.zero_grad(set_to_none=True)
        loss = torch.zeros(self.model.copies, device=self._device)
        for micro_rows in torch.split(rows_B, self.micro_batch, dim=-1):
            x_BTF, y_B = self.dataset.gather(micro_rows)
            with autocast(self._precision, self._device):
                logits_B = self.model(x_BTF, self.dataset.symbols_R[micro_rows])
            micro_loss = F.binary_cross_entropy_with_logits(logits_B, y_B, reduction="none").sum(-1) / rows_B.shape[-1]
            # Trials share no parameters, so that the gradient of the sum is each trial's own.
            micro_loss.sum().backward()  # type: ignore[no-untyped-call]
            loss += micro_loss.detach()
        if self.model.copies:
            for name, parameter in self.model.named_parameters():
                for index, state in enumerate(self.states):
                    state.weights[name].grad = None if parameter.grad is None else parameter.grad[index]
        return loss, torch.stack([state.update() for state in self.states])

    def _predict(self) -> list[Logits]:
        """Return the validation logits of each trial."""
        copies = self.model.copies[0] if self.model.copies else None
        logits = predict(self.model, self.dataset, self._val_rows, copies=copies)
        return list(logits) if copies else [logits]

    def _validation_loss(self, logits: Logits, epoch: int) -> float:
        val_loss = float(row_losses(logits, self._val_labels).mean())
        raise_if_diverged(val_loss, epoch, "validation loss")
        return val_loss

    def _save(self, checkpoint: Checkpoint, path: Path) -> None:
        self._writer.save(checkpoint, path)

    def _restore(self, trial: RunningTrial) -> None:
        """Continue from the trial's checkpoint; start anew if there is none of this very training."""
        checkpoint = Checkpoint.load(trial.checkpoint) if trial.checkpoint else None
        if checkpoint is None or checkpoint.notes["identity"] != trial.state.identity:
            trial.state.restart()
            return
        trial.state.restore(checkpoint)
        # Another micro-batch sums in another order; a smaller one was chosen because memory is short.
        self.micro_batch = min(self.micro_batch, checkpoint.notes["micro_batch"])
        for record in trial.state.history.records:
            trial.listener.on_epoch(record)

    def _remove_ended(
        self,
        active: list[RunningTrial],
        trials: list[RunningTrial],
        memory: PeakMemory,
        on_end: Callable[[int, TrainingEnd], None],
    ) -> list[RunningTrial]:
        """Report the trials that have ended, take their models out of the stack and return the other trials."""
        for trial in active:
            if trial.end is None and trial.state.is_over:
                trial.end = self._result(trial.state.history, memory, len(trials))
            if trial.end is not None:
                # The callback may delete the checkpoint, which a pending write must not bring back.
                self._writer.wait()
                on_end(trials.index(trial), trial.end)
        remaining = [index for index, trial in enumerate(active) if trial.end is None]
        if self.model.copies and 0 < len(remaining) < len(active):
            self._shrink(remaining)
        return [active[index] for index in remaining]

    def _result(self, history: TrainingHistory, memory: PeakMemory, side_by_side: int) -> TrainingResult:
        windows = len(self._train_rows) * len(history.records)
        return TrainingResult(
            epochs=history.records,
            best_epoch=history.best_epoch,
            val_logits=history.best_logits,
            weights=history.best_weights,
            samples_per_second=windows / sum(record.seconds for record in history.records),
            peak_memory_bytes=memory.read(),
            micro_batch=self.micro_batch,
            side_by_side=side_by_side,
        )

    def _weights_of(self, index: int) -> Mapping[str, Tensor]:
        """Return a trial's parameters: the model's own, or views into the stack's, which share its memory."""
        named = self.model.named_parameters()
        return {name: p.detach()[index] if self.model.copies else p for name, p in named}

    def _set_states(self, states: list[TrialState]) -> None:
        self.states = states
        self.model.noise.generators = [state.noise for state in states]
        self.model.noise.filled_ahead = self._use_graph
        # A recorded step refers to these very states and must be recorded again.
        self.step: Step = self._take_step
        if self._use_graph:
            self.step = StepGraph(self._take_step, lambda rows_B: self.model.noise.fill(rows_B.shape[-1], self._device))

    def _shrink(self, remaining: list[int]) -> None:
        """Keep only the copies with these indices in the stack."""
        for parameter in self.model.parameters():
            parameter.data = parameter.data[remaining]
            parameter.grad = None
        self.model.dropout.set([self.model.dropout.rates[index] for index in remaining])
        self._set_states([self.states[index] for index in remaining])
        for index, state in enumerate(self.states):
            state.rebind(self._weights_of(index))
