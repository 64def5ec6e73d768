"""Trains one model, or a stack of models as one. Knows no tracking and no search: it reports to a listener.

Shapes: K trials trained side by side (an axis that a single one does not have, written `...`), B batch, R training rows,
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
from research.training.trial_state import DivergedError, EpochRecord, TrainingHistory, TrialState, require_alike, require_sane

Logits = NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class TrainingResult:
    """A finished training."""

    epochs: list[EpochRecord]
    best_epoch: int
    val_logits: Logits
    """Of the best epoch, one per validation row."""
    weights: dict[str, Tensor]
    """Of the best epoch, on the CPU."""
    samples_per_second: float
    """Training windows per second of training time, evaluation left out."""
    peak_memory_bytes: int
    """Of the process: of trials trained side by side, all together; of devices that share a trial, the fullest one's."""
    micro_batch: int
    """Windows per forward pass that were in use at the end, on each device."""
    side_by_side: int
    """Trials that were trained as one at the start."""
    devices: int = 1
    """Devices that the trial was spread over."""

    @property
    def val_loss(self) -> float:
        """Validation loss of the best epoch, the objective of a sweep."""
        return self.epochs[self.best_epoch - 1].val_loss


class TrialOver(Exception):  # noqa: N818
    """What a listener raises to end its own trial early; the others of a stack go on."""


class Listener(Protocol):
    """Whoever wants to know how training goes."""

    def on_step(self, step: int) -> None:
        """Called after each optimizer step, counted from 1 over all epochs; must return at once."""

    def on_epoch(self, record: EpochRecord) -> None:
        """Called after each epoch's evaluation, and for each epoch that a checkpoint brought back."""


Outcome = TrainingResult | DivergedError | TrialOver


@dataclass(kw_only=True, eq=False)
class RunningTrial:
    """A member of the training with those who hear of it and where its state is kept."""

    member: TrialState
    listener: Listener
    checkpoint: Path | None
    outcome: Outcome | None = None


def build_model(architecture: ArchitectureSpec, training: TrainingSpec, device: torch.device) -> PatchTransformer:
    """A freshly initialised model; its weights depend on the seed alone, on every device."""
    seed_everything(training.seed)
    if training.optimizer == "adafactor":
        return low_memory_model(architecture, training.dropout, base_width=training.base_width).to(device)
    return PatchTransformer(architecture, training.dropout, base_width=training.base_width).to(device)


def build_stack(architecture: ArchitectureSpec, trainings: Sequence[TrainingSpec], device: torch.device) -> PatchTransformer:
    """The models of several trials as one; each starts with the weights that it would have alone."""
    return stacked([build_model(architecture, training, device) for training in trainings])


class Trainer:
    """A model, its optimizers, schedules and data orders, built from specs and inspectable before the first step."""

    member_type: type[TrialState] = TrialState

    def __init__(
        self,
        model: PatchTransformer,
        dataset: WindowDataset,
        split: Split,
        specs: TrainingSpec | Sequence[TrainingSpec],
        runtime: Runtime,
    ):
        specs = (specs,) if isinstance(specs, TrainingSpec) else tuple(specs)
        require_alike(specs)
        assert model.copies in ((), (len(specs),))
        self.model = model
        self.dataset = dataset
        self.batch_size = specs[0].batch_size
        self.micro_batch = min(runtime.micro_batch or self.batch_size, self.batch_size)
        self._device = runtime.device
        self._writer = Writer(runtime.device)
        self._precision = runtime.precision
        # A low-memory step updates while gradients come in, and counts on the host.
        self._recorded = runtime.compile and runtime.device.type == "cuda" and not model.recompute
        if runtime.compile and compiles(runtime.device):
            compile_blocks(model)
        self._train_rows = dataset.rows(split.train)
        self._val_rows = dataset.rows(split.validation)
        self._val_labels = dataset.labels_R[self._val_rows].cpu().numpy().astype(np.int8)
        rows = (len(split.train), len(split.validation))
        self.members = [
            self.member_type(model.architecture, spec, self._weights_of(place), rows=rows) for place, spec in enumerate(specs)
        ]
        self._seat_members(self.members)

    def applied(self, place: int = 0) -> dict[str, Any]:
        """The training parameters of one trial, read back from the objects that use them, for the record of a run."""
        return {
            **self.members[place].applied(),
            "dropout": self.model.dropout.rates[place],
            "batch_size": self.batch_size,
        }

    def run(self, listener: Listener, checkpoint: Path | None = None) -> TrainingResult:
        """Train a single trial until the epochs or the patience end; restore the best epoch's weights.

        With a `checkpoint` path the whole state is written there after every epoch, and a state found there is
        continued: the result is then, to the bit, that of a training that never stopped.

        Raises `DivergedError` when the loss stops being finite.
        """
        (outcome,) = self.run_all([listener], [checkpoint])
        if isinstance(outcome, Exception):
            raise outcome
        if not self.model.copies:
            self.model.load_state_dict(outcome.weights)
        return outcome

    def run_all(
        self,
        listeners: Sequence[Listener],
        checkpoints: Sequence[Path | None],
        on_end: Callable[[int, Outcome], None] = lambda *_: None,
    ) -> list[Outcome]:
        """Train all trials side by side, each to its own end: what one does changes nothing for another.

        `on_end` is told the place and the outcome of each the moment it ends.
        """
        seed_everything(self.members[0].spec.seed)
        memory = PeakMemory(self._device)
        seats = [
            RunningTrial(member=member, listener=listener, checkpoint=checkpoint)
            for member, listener, checkpoint in zip(self.members, listeners, checkpoints, strict=True)
        ]
        for seat in seats:
            with _kept_apart(seat):
                self._restore(seat)
        if self._recorded and self.micro_batch < self.batch_size:
            # A step of several passes draws random bits in between.
            self._recorded = False
            self._seat_members(self.members)
        active = seats
        try:
            while active := self._remaining(active, seats, memory, on_end):
                self._next_epoch(active)
        finally:
            self._writer.wait()
        return [seat.outcome for seat in seats if seat.outcome is not None]

    def _remaining(
        self, active: list[RunningTrial], seats: list[RunningTrial], memory: PeakMemory, on_end: Callable[[int, Outcome], None]
    ) -> list[RunningTrial]:
        """Those that go on; the others get their outcome and leave the stack."""
        for seat in active:
            if seat.outcome is None and seat.member.is_over:
                seat.outcome = self._result(seat.member.progress, memory, len(seats))
            if seat.outcome is not None:
                # Whoever is told may remove the checkpoint, which must not come back after that.
                self._writer.wait()
                on_end(seats.index(seat), seat.outcome)
        staying = [seat for seat in active if seat.outcome is None]
        if self.model.copies and 0 < len(staying) < len(active):
            self._shrink([place for place, seat in enumerate(active) if seat.outcome is None])
        return staying

    def _result(self, progress: TrainingHistory, memory: PeakMemory, side_by_side: int) -> TrainingResult:
        trained = len(self._train_rows) * len(progress.records)
        return TrainingResult(
            epochs=progress.records,
            best_epoch=progress.best_epoch,
            val_logits=progress.best_logits,
            weights=progress.best_weights,
            samples_per_second=trained / sum(record.seconds for record in progress.records),
            peak_memory_bytes=memory.read(),
            micro_batch=self.micro_batch,
            side_by_side=side_by_side,
        )

    def _restore(self, seat: RunningTrial) -> None:
        found = Checkpoint.load(seat.checkpoint) if seat.checkpoint else None
        if found is None or found.notes["identity"] != seat.member.identity:
            seat.member.restart()
            return
        seat.member.restore(found)
        # Another micro-batch adds up in another order; a smaller one was chosen because memory is short.
        self.micro_batch = min(self.micro_batch, found.notes["micro_batch"])
        for record in seat.member.progress.records:
            seat.listener.on_epoch(record)

    def _next_epoch(self, active: list[RunningTrial]) -> None:
        began = time.perf_counter()
        losses, norms, rates = self._train_epoch(active)
        seconds = (time.perf_counter() - began) / len(active)
        logits = self._predict()
        for place, seat in enumerate(active):
            with _kept_apart(seat):
                member = seat.member
                require_sane(losses[place], member.epoch, "training loss")
                val_loss = self._validated(logits[place], member.epoch)
                record = EpochRecord(
                    epoch=member.epoch,
                    train_loss=losses[place],
                    val_loss=val_loss,
                    learning_rate=rates[place],
                    gradient_norm=norms[place],
                    seconds=seconds,
                )
                member.note(record, logits[place])
                if seat.checkpoint:
                    self._save(member.state(self.micro_batch), seat.checkpoint)
                seat.listener.on_epoch(record)

    def _validated(self, logits: Logits, epoch: int) -> float:
        """Validation loss of one trial after an epoch."""
        val_loss = float(row_losses(logits, self._val_labels).mean())
        require_sane(val_loss, epoch, "validation loss")
        return val_loss

    def _save(self, state: Checkpoint, path: Path) -> None:
        self._writer.save(state, path)

    def _train_epoch(self, active: list[RunningTrial]) -> tuple[list[float], list[float], list[float]]:
        """A pass over the training rows: mean loss, mean gradient norm and last learning rate of each trial."""
        self.model.train()
        members = [seat.member for seat in active]
        rows = self._shuffled(members)
        loss_sum = torch.zeros(self.model.copies, device=self._device)
        norm_sum = torch.zeros(len(members), device=self._device)
        rates: list[float] = []
        for number, rows_B in enumerate(torch.split(rows, self.batch_size, dim=-1)):
            rates = [member.set_rate(number) for member in members]
            loss, norm = self.step(rows_B)
            loss_sum += loss * rows_B.shape[-1]
            norm_sum += norm
            for seat in active:
                seat.listener.on_step((seat.member.epoch - 1) * seat.member.steps_per_epoch + number + 1)
        # The one synchronisation with the device per epoch.
        losses = (loss_sum / rows.shape[-1]).reshape(-1).tolist()
        return losses, (norm_sum / members[0].steps_per_epoch).tolist(), rates

    def _shuffled(self, members: list[TrialState]) -> Tensor:
        """Training rows in each trial's own order, [..., R]."""
        orders = [torch.randperm(len(self._train_rows), generator=member.order) for member in members]
        order = torch.stack(orders) if self.model.copies else orders[0]
        return self._train_rows[order.to(self._device)]

    def _take_step(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step of all trials; micro-batches add up to the gradient of the whole batch."""
        self.model.zero_grad(set_to_none=True)
        loss = torch.zeros(self.model.copies, device=self._device)
        for micro_rows in torch.split(rows_B, self.micro_batch, dim=-1):
            x_BTF, y_B = self.dataset.gather(micro_rows)
            with autocast(self._precision, self._device):
                logits_B = self.model(x_BTF, self.dataset.symbols_R[micro_rows])
            part = F.binary_cross_entropy_with_logits(logits_B, y_B, reduction="none").sum(-1) / rows_B.shape[-1]
            # Parameters of different trials share nothing, so that the sum's gradient is each trial's own.
            part.sum().backward()  # type: ignore[no-untyped-call]
            loss += part.detach()
        if self.model.copies:
            self._hand_out_gradients()
        return loss, torch.stack([member.update() for member in self.members])

    def _hand_out_gradients(self) -> None:
        for name, parameter in self.model.named_parameters():
            for place, member in enumerate(self.members):
                member.weights[name].grad = None if parameter.grad is None else parameter.grad[place]

    def _predict(self) -> list[Logits]:
        """Validation logits of each trial."""
        copies = self.model.copies[0] if self.model.copies else None
        logits = predict(self.model, self.dataset, self._val_rows, copies=copies)
        return list(logits) if copies else [logits]

    def _weights_of(self, place: int) -> Mapping[str, Tensor]:
        """A trial's parameters: the model's own, or views into the stack's, which share its memory."""
        named = self.model.named_parameters()
        return {name: p.detach()[place] if self.model.copies else p for name, p in named}

    def _seat_members(self, members: list[TrialState]) -> None:
        self.members = members
        self.model.noise.generators = [member.noise for member in members]
        self.model.noise.filled_ahead = self._recorded
        # A recorded step is one of these members.
        self.step: Step = StepGraph(self._take_step, self._fill_noise) if self._recorded else self._take_step

    def _fill_noise(self, rows_B: Tensor) -> None:
        self.model.noise.fill(rows_B.shape[-1], self._device)

    def _shrink(self, staying: list[int]) -> None:
        """Take the copies that have ended out of the stack."""
        for parameter in self.model.parameters():
            parameter.data = parameter.data[staying]
            parameter.grad = None
        self.model.dropout.set([self.model.dropout.rates[place] for place in staying])
        self._seat_members([self.members[place] for place in staying])
        for place, member in enumerate(self.members):
            member.rebind(self._weights_of(place))


@contextmanager
def _kept_apart(seat: RunningTrial) -> Iterator[None]:
    """What ends one trial becomes its outcome."""
    try:
        yield
    except (DivergedError, TrialOver) as end:
        seat.outcome = end
