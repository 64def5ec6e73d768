"""Scaling of columns to zero mean and unit variance, fitted on training rows only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """Mean and scale of each column. Fitting on rows outside the training split would leak their level into training."""

    mean: NDArray[np.float64]
    """Means [columns]."""
    scale: NDArray[np.float64]
    """Standard deviations [columns]; 1 for a constant column."""

    @classmethod
    def fit(cls, values: NDArray[np.float64], training_rows: NDArray[np.int64]) -> Scaler:
        """Return the scaler of the training rows of `values` [rows, columns]."""
        rows = values[training_rows]
        # A constant column's standard deviation is rounding noise, not zero.
        varies = np.ptp(rows, axis=0) > 0
        return cls(mean=rows.mean(axis=0), scale=np.where(varies, rows.std(axis=0), 1.0))

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Return the scaled values as float32, with the same shape."""
        return ((values - self.mean) / self.scale).astype(np.float32)
