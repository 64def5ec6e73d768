"""The window data path: the feature matrix lives on the device once, a batch is a gather of windows by row.

Shapes: R rows (days), T context, F features, B batch.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from research.features.feature_sets import FeatureMatrix
from research.features.standardise import Standardiser
from research.windows.splits import Split
from research.windows.targets import Target


class WindowDataset:
    """Right-aligned windows: the window of row t is rows t - context_length + 1 .. t."""

    def __init__(self, values_RF: NDArray[np.float32], labels: NDArray[np.int8], context_length: int, device: torch.device):
        self.context_length = context_length
        self.n_features = values_RF.shape[1]
        self.values_RF = torch.from_numpy(values_RF).to(device)
        self.labels_R = torch.from_numpy(labels.astype(np.float32)).to(device)
        # A strided view, no copy: starts_STF[s] is the window that starts at row s.
        self._starts_STF = self.values_RF.unfold(0, context_length, 1).transpose(1, 2)

    def gather(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Windows x_BTF and labels y_B of the given rows, on the device, without per-sample Python."""
        return self._starts_STF[rows_B - (self.context_length - 1)], self.labels_R[rows_B]

    def rows(self, rows: NDArray[np.int64]) -> Tensor:
        """Row numbers as a device tensor, for `gather`; each needs a whole context before it."""
        assert len(rows) == 0 or rows.min() >= self.context_length - 1
        return torch.from_numpy(rows).to(self.values_RF.device)


@dataclass(frozen=True, kw_only=True)
class Prepared:
    """Everything one study's models see, made once and shared by its trials and baselines."""

    matrix: FeatureMatrix
    target: Target
    split: Split
    standardiser: Standardiser
    context_length: int

    @property
    def standardised(self) -> NDArray[np.float32]:
        """[rows, features], scaled by training rows; rows before the first complete one are zero and never read."""
        scaled = self.standardiser.apply(self.matrix.values)
        scaled[: self.matrix.first_row] = 0.0
        return scaled

    def labels_of(self, split: str) -> NDArray[np.int8]:
        """Labels of a split's rows."""
        rows: NDArray[np.int64] = getattr(self.split, split)
        return self.target.labels[rows]

    def dataset(self, device: torch.device) -> WindowDataset:
        """The same data on a device."""
        return WindowDataset(self.standardised, self.target.labels, self.context_length, device)


def prepare(matrix: FeatureMatrix, target: Target, split: Split, context_length: int) -> Prepared:
    """Fit the standardiser on the rows that training windows cover and put the parts together."""
    training_rows = np.arange(matrix.first_row, split.train[-1] + 1, dtype=np.int64)
    return Prepared(
        matrix=matrix,
        target=target,
        split=split,
        context_length=context_length,
        standardiser=Standardiser.fit(matrix.values, training_rows),
    )
