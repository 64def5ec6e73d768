"""Zero mean, unit scale, from training rows only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, kw_only=True)
class Scaler:
    """Per-column mean and scale. Fitting on rows outside the training split leaks their level into it."""

    mean: NDArray[np.float64]
    scale: NDArray[np.float64]

    @classmethod
    def fit(cls, values: NDArray[np.float64], training_rows: NDArray[np.int64]) -> Scaler:
        """Mean and standard deviation of the training rows; a constant column keeps scale 1."""
        rows = values[training_rows]
        # A constant column's standard deviation is rounding noise, not zero.
        varies = np.ptp(rows, axis=0) > 0
        return cls(mean=rows.mean(axis=0), scale=np.where(varies, rows.std(axis=0), 1.0))

    def apply(self, values: NDArray[np.float64]) -> NDArray[np.float32]:
        """Standardised copy, float32."""
        return ((values - self.mean) / self.scale).astype(np.float32)
