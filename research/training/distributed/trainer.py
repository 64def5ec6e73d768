"""A training by several processes, each of which holds a part of the model on its own device.

All processes take the same steps and the same decisions, from the same numbers. The first one keeps the best weights and the
checkpoint, both whole: a checkpoint equals that of a single device and can be continued on any number of devices.

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
from research.training.trainer import Listener, Logits, RunningTrial, Trainer, TrainingEnd, TrainingResult
from research.training.trial_state import TrainingHistory, TrialState


class ShardedTrialState(TrialState):
    """A trial of which this process holds a part of every weight and moment."""

    def update(self) -> Tensor:
        """Take one optimizer step; return the norm of the whole gradient before clipping."""
        norm = nn.utils.clip_grad_norm_(self.weights.values(), self.spec.gradient_clip)
        self.optimizer.step()
        return whole(norm)

    def gather(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Yield each tensor whole, in the first process only. One at a time: no device may be able to hold them all."""
        for name, value in tensors.items():
            whole_value = whole(value.detach())
            if dist.get_rank() == 0:
                yield name, whole_value

    def local_part(self, value: Tensor, weight: Tensor) -> Tensor:
        """Return the part of a stored weight or moment that this process trains."""
        return part_of(value, weight)

    def _new_optimizer(self) -> torch.optim.AdamW:
        assert self.spec.optimizer == "adamw"
        return build_optimizer(self.weights.items(), self.spec, self.architecture)


class ShardedTrainer(Trainer):
    """Trainer in one process of a group; all processes must make the same calls. Each builds the same whole `model`."""

    state_type = ShardedTrialState

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
        # Compiled blocks and recorded steps have not been tried on sharded weights.
        plain = replace(runtime, micro_batch=share_of(spec.batch_size, mesh.size()), compile=False)
        super().__init__(model, dataset, split, spec, plain)

    def run_all(
        self,
        listeners: Sequence[Listener],
        checkpoints: Sequence[Path | None],
        on_end: Callable[[int, TrainingEnd], None] = lambda *_: None,
    ) -> list[TrainingEnd]:
        """Train the single trial to its end."""
        with warnings.catch_warnings():
            # Matters only to code that changes the logits in place.
            warnings.filterwarnings("ignore", message=".*returned a view tensor")
            # The normalisation of zero windows, in a process that gets none of a small batch.
            warnings.filterwarnings("ignore", message=r"var\(\): degrees of freedom")
            return super().run_all(listeners, checkpoints, on_end)

    def _take_step(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Take one optimizer step; each process computes its share of the windows."""
        (state,) = self.states
        # After an evaluation the model's own parameters are whole, while gradients belong to the optimizer's parts.
        state.optimizer.zero_grad(set_to_none=True)
        self._noise.whole = len(rows_B)
        own_rows = rows_B[self._noise.own(len(rows_B))]
        x_BTF, y_B = self.dataset.gather(own_rows)
        with autocast(self._precision, self._device):
            logits_B = self.model(x_BTF, self.dataset.symbols_R[own_rows])
        loss = F.binary_cross_entropy_with_logits(logits_B, y_B, reduction="sum") / len(rows_B)
        # FSDP averages gradients over processes, but the whole batch's gradient is their sum.
        (loss * self._noise.count).backward()  # type: ignore[no-untyped-call]
        loss = loss.detach()
        dist.all_reduce(loss)
        return loss, torch.stack([state.update()])

    def _predict(self) -> list[Logits]:
        """Return the validation logits; all processes make the same number of passes, each over its share of the rows."""
        own_logits = np.zeros(len(self._val_rows))
        for indices in torch.split(torch.arange(len(self._val_rows)), EVALUATION_BATCH * self._noise.count):
            own = indices[self._noise.own(len(indices))]
            own_logits[own.numpy()] = predict(self.model, self.dataset, self._val_rows[own.to(self._device)])
        # Each row is zero in all processes but one.
        logits = torch.from_numpy(own_logits).to(self._device)
        dist.all_reduce(logits)
        return [logits.cpu().numpy()]

    def _restore(self, trial: RunningTrial) -> None:
        micro_batch = self.micro_batch
        super()._restore(trial)
        # One pass takes a process's whole share, whatever the micro-batch of the checkpoint.
        self.micro_batch = micro_batch

    def _save(self, checkpoint: Checkpoint, path: Path) -> None:
        if self._noise.rank == 0:
            super()._save(checkpoint, path)

    def _result(self, history: TrainingHistory, memory: PeakMemory, side_by_side: int) -> TrainingResult:
        result = super()._result(history, memory, side_by_side)
        fullest = torch.tensor(result.peak_memory_bytes, device=self._device)
        dist.all_reduce(fullest, dist.ReduceOp.MAX)
        return replace(result, peak_memory_bytes=int(fullest), devices=self._noise.count)
