"""The last training of a chosen configuration: as many epochs as were decided beforehand, nothing to validate on."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.training.trainer import Logits, Trainer
from research.training.trial_state import EpochRecord, TrialState


class FixedLengthState(TrialState):
    """Keeps the weights of its newest epoch: without validation days none is better than another."""

    stop_after: int = 1

    @property
    def is_over(self) -> bool:
        """Whether the epochs that were decided on are done; patience has nothing to watch."""
        return len(self.progress.records) >= self.stop_after

    def note(self, record: EpochRecord, logits: NDArray[np.float64]) -> None:
        """Take in the epoch that has ended."""
        self.progress.take(record, self.gathered(self.weights))

    @property
    def identity(self) -> str:
        """What a checkpoint must have been written for: never that of a trial."""
        return f"final-{self.stop_after}-{super().identity}"


class FixedLengthTrainer(Trainer):
    """Trains on all rows and stops after `stop_after` epochs.

    Warm-up and cosine are those of the spec's whole `epochs`: the rates in each epoch are then those that the trial had in
    it, also where it stopped before its schedule ended. A schedule squeezed into `stop_after` would be another training.
    """

    member_type = FixedLengthState

    def __init__(self, *args: Any, stop_after: int):
        super().__init__(*args)
        assert len(self._val_rows) == 0
        for member in self.members:
            assert isinstance(member, FixedLengthState)
            assert 1 <= stop_after <= member.spec.epochs
            member.stop_after = stop_after

    def _predict(self) -> list[Logits]:
        return [np.array([]) for _ in self.members]

    def _validated(self, logits: Logits, epoch: int) -> float:
        return math.nan
