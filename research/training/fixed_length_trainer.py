"""Training of a final model: a number of epochs fixed beforehand, and no validation rows."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from research.training.trainer import Logits, Trainer
from research.training.trial_state import EpochRecord, TrialState


class FixedLengthState(TrialState):
    """Keeps the weights of the newest epoch: without validation rows no epoch is better than another."""

    stop_after: int = 1

    @property
    def is_over(self) -> bool:
        """Whether the fixed number of epochs is done; there is no validation loss for patience to watch."""
        return len(self.history.records) >= self.stop_after

    def record_epoch(self, record: EpochRecord, logits: NDArray[np.float64]) -> None:
        """Add a finished epoch to the history, as the best one."""
        self.history.add_best(record, self.gather(self.weights))

    @property
    def identity(self) -> str:
        """Fingerprint that no trial has, so that a trial's checkpoint is never continued."""
        return f"final-{self.stop_after}-{super().identity}"


class FixedLengthTrainer(Trainer):
    """Trains on all rows and stops after `stop_after` epochs.

    Warm-up and cosine span the spec's whole `epochs`. The rates in each epoch are then those of the trial, even if it
    stopped before its schedule ended. A schedule squeezed into `stop_after` epochs would be another training.
    """

    state_type = FixedLengthState

    def __init__(self, *args: Any, stop_after: int):
        super().__init__(*args)
        assert len(self._val_rows) == 0
        for state in self.states:
            assert isinstance(state, FixedLengthState)
            assert 1 <= stop_after <= state.spec.epochs
            state.stop_after = stop_after

    def _predict(self) -> list[Logits]:
        return [np.array([]) for _ in self.states]

    def _validation_loss(self, logits: Logits, epoch: int) -> float:
        return math.nan
