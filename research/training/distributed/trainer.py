"""The training of `Trainer`, by several processes that each hold a part of the model on a device of their own.

All of them take the same steps and come to the same decisions, from the same numbers. The first one keeps what must be whole:
the best weights and the checkpoint, which is that of a single device and goes on on any number of them.

Shapes: B batch, R rows.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn
from torch.distributed.device_mesh import DeviceMesh

from research.models.patch_transformer import PatchTransformer
from research.runtime import PeakMemory, Runtime
from research.spec import TrainingSpec
from research.task.splits import Split
from research.task.windows import EVALUATION_BATCH, WindowDataset, predict
from research.training.checkpoint import Checkpoint
from research.training.distributed.fsdp import SharedNoise, part_of, shard, share_of, whole
from research.training.optim import build_optimizer
from research.training.precision import autocast
from research.training.trainer import Listener, Logits, Outcome, RunningTrial, Trainer, TrainingResult
from research.training.trial_state import TrainingHistory, TrialState


class ShardedTrialState(TrialState):
    """A trial of whose weights and moments this process holds a part."""

    def update(self) -> Tensor:
        """One optimizer step; the norm before clipping is that of the whole gradient."""
        norm = nn.utils.clip_grad_norm_(self.weights.values(), self.spec.gradient_clip)
        self.optimizer.step()
        return whole(norm)

    def gathered(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Put each together, one after the other, since no device may hold them all; only the first process keeps any."""
        for name, value in tensors.items():
            found = whole(value.detach())
            if dist.get_rank() == 0:
                yield name, found

    def placed(self, value: Tensor, weight: Tensor) -> Tensor:
        """The part of it that belongs to this process."""
        return part_of(value, weight)

    def _new_optimizer(self) -> torch.optim.AdamW:
        assert self.spec.optimizer == "adamw"
        return build_optimizer(self.weights.items(), self.spec, self.architecture)


class ShardedTrainer(Trainer):
    """A trainer for a process of a group; all must make the same calls. `model` is whole, and built alike by all."""

    member_type = ShardedTrialState

    def __init__(
        self,
        model: PatchTransformer,
        dataset: WindowDataset,
        split: Split,
        spec: TrainingSpec,
        runtime: Runtime,
        mesh: DeviceMesh,
    ):
        shard(model, mesh)
        assert isinstance(model.noise, SharedNoise)
        self._noise = model.noise
        # What is compiled or recorded has not been tried on parts of weights.
        plain = replace(runtime, micro_batch=share_of(spec.batch_size, mesh.size()), compile=False)
        super().__init__(model, dataset, split, spec, plain)

    def run_all(
        self,
        listeners: Sequence[Listener],
        checkpoints: Sequence[Path | None],
        on_end: Callable[[int, Outcome], None] = lambda *_: None,
    ) -> list[Outcome]:
        """The one trial to its end."""
        with warnings.catch_warnings():
            # That logits are a view matters only to whoever changes them in place.
            warnings.filterwarnings("ignore", message=".*returned a view tensor")
            # The level of no window at all, where a process has none of a small batch.
            warnings.filterwarnings("ignore", message=r"var\(\): degrees of freedom")
            return super().run_all(listeners, checkpoints, on_end)

    def _take_step(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """One optimizer step; each process takes its share of the windows."""
        (member,) = self.members
        # The model's own parameters are whole after an evaluation; the gradients are those of their parts.
        member.optimizer.zero_grad(set_to_none=True)
        self._noise.whole = len(rows_B)
        own_rows = rows_B[self._noise.own(len(rows_B))]
        x_BTF, y_B = self.dataset.gather(own_rows)
        with autocast(self._precision, self._device):
            logits_B = self.model(x_BTF, self.dataset.symbols_R[own_rows])
        loss = F.binary_cross_entropy_with_logits(logits_B, y_B, reduction="sum") / len(rows_B)
        # Gradients are averaged over processes, and the whole batch's is their sum.
        (loss * self._noise.count).backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        dist.all_reduce(loss)
        return loss, torch.stack([member.update()])

    def _predict(self) -> list[Logits]:
        """Validation logits; all processes make the same number of passes, each over its share of the rows."""
        own_logits = np.zeros(len(self._val_rows))
        for places in torch.split(torch.arange(len(self._val_rows)), EVALUATION_BATCH * self._noise.count):
            own = places[self._noise.own(len(places))]
            own_logits[own.numpy()] = predict(self.model, self.dataset, self._val_rows[own.to(self._device)])
        # Each row is zero everywhere but in one process.
        logits = torch.from_numpy(own_logits).to(self._device)
        dist.all_reduce(logits)
        return [logits.cpu().numpy()]

    def _restore(self, seat: RunningTrial) -> None:
        micro_batch = self.micro_batch
        super()._restore(seat)
        # One pass takes a process's whole share, whatever the checkpoint was written with.
        self.micro_batch = micro_batch

    def _save(self, state: Checkpoint, path: Path) -> None:
        if self._noise.rank == 0:
            super()._save(state, path)

    def _result(self, progress: TrainingHistory, memory: PeakMemory, side_by_side: int) -> TrainingResult:
        result = super()._result(progress, memory, side_by_side)
        fullest = torch.tensor(result.peak_memory_bytes, device=self._device)
        dist.all_reduce(fullest, dist.ReduceOp.MAX)
        return replace(result, peak_memory_bytes=int(fullest), devices=self._noise.count)
