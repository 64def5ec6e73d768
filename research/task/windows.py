"""Windows of features: the feature matrix is stored on the device once, and a batch gathers windows by row.

The instruments of a task are stacked, one below the other. No window crosses from one instrument into the next: every row
of a split has a whole context of its own instrument before it.

Shapes: R rows (days of all instruments), T context, F features, B batch.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from research.errors import require
from research.features.feature_sets import FeatureMatrix
from research.features.scaler import Scaler
from research.fingerprint import digest_bytes
from research.spec import WindowsFrom
from research.task.splits import Rows, Split
from research.task.targets import Target

EVALUATION_BATCH = 512


class WindowDataset:
    """Right-aligned windows: the window of row t is rows t - context_length + 1 .. t."""

    def __init__(
        self,
        values_RF: NDArray[np.float32],
        labels: NDArray[np.int8],
        context_length: int,
        device: torch.device,
        symbols: NDArray[np.int64] | None = None,
    ):
        self.context_length = context_length
        self.n_features = values_RF.shape[1]
        self.values_RF = torch.from_numpy(values_RF).to(device)
        self.labels_R = torch.from_numpy(labels.astype(np.float32)).to(device)
        self.symbols_R = torch.from_numpy(np.zeros(len(labels), np.int64) if symbols is None else symbols).to(device)
        self._days_T = torch.arange(1 - context_length, 1, device=device)

    def gather(self, rows_B: Tensor) -> tuple[Tensor, Tensor]:
        """Return windows x_BTF and labels y_B of rows of any shape, on the device, without Python code per sample."""
        R, F = self.values_RF.shape
        T = self.context_length
        if self.values_RF.device.type != "cpu":
            return self.values_RF[rows_B.unsqueeze(-1) + self._days_T], self.labels_R[rows_B]
        # A view without a copy: window s is the T * F numbers from row s on, so that each window is one contiguous copy.
        windows_SC = self.values_RF.as_strided((R - T + 1, T * F), (F, 1))
        rows = rows_B.reshape(-1)
        x_BTF = windows_SC.index_select(0, rows - (T - 1)).view(*rows_B.shape, T, F)
        return x_BTF, self.labels_R.index_select(0, rows).view(rows_B.shape)

    def rows(self, rows: NDArray[np.int64]) -> Tensor:
        """Return row numbers as a device tensor for `gather`; each needs a whole context before it."""
        assert len(rows) == 0 or rows.min() >= self.context_length - 1
        return torch.from_numpy(rows).to(self.values_RF.device)


@torch.no_grad()
def predict(
    model: nn.Module, dataset: WindowDataset, rows: Tensor, *, copies: int | None = None, dtype: torch.dtype = torch.float32
) -> NDArray[np.float64]:
    """Return logits of the given rows without dropout, [copies, rows] for a stack; sets the model to evaluation mode.

    Computed in `dtype`, since the model's layers follow their input.
    """
    model.eval()
    parts = []
    for rows_B in torch.split(rows, max(EVALUATION_BATCH // (copies or 1), 1)):
        rows_B = rows_B if copies is None else rows_B.expand(copies, -1)
        parts.append(model(dataset.gather(rows_B)[0].to(dtype), dataset.symbols_R[rows_B]))
    logits: NDArray[np.float64] = torch.cat(parts, dim=-1).cpu().double().numpy()
    return logits


def predict_float64(model: nn.Module, dataset: WindowDataset, rows: Tensor) -> NDArray[np.float64]:
    """Return logits of a trained model in double precision, identical in evaluation and serving.

    In single precision they differ by about 1e-6 between batch sizes, thread counts and machines, and a steep
    calibration magnifies that a hundredfold. The data must be on the CPU, where every machine has double precision.
    """
    assert dataset.values_RF.device.type == "cpu"
    return predict(model, dataset, rows, dtype=torch.float64)


@dataclass(frozen=True, kw_only=True)
class InstrumentData:
    """Features, target and split of one instrument, on its own rows."""

    symbol: str
    matrix: FeatureMatrix
    target: Target
    split: Split


@dataclass(frozen=True, kw_only=True)
class WindowedData:
    """Data of one task, computed once and shared by its trials and baselines."""

    parts: tuple[InstrumentData, ...]
    """Instruments; row r of the second one is row r + len(first) of the stack."""
    split: Split
    """Rows of the stack."""
    standardiser: Scaler
    context_length: int

    @property
    def columns(self) -> list[str]:
        """Feature columns in order."""
        return self.parts[0].matrix.columns

    @cached_property
    def values(self) -> NDArray[np.float64]:
        """[R, F] raw features, NaN in each instrument's warm-up."""
        return np.concatenate([part.matrix.values for part in self.parts])

    @cached_property
    def labels(self) -> NDArray[np.int8]:
        """[R] labels, -1 without one."""
        return np.concatenate([part.target.labels for part in self.parts])

    @cached_property
    def days(self) -> pd.DatetimeIndex:
        """[R] day of each row; ascending within an instrument only."""
        return pd.DatetimeIndex(np.concatenate([part.target.days.to_numpy() for part in self.parts]))

    @cached_property
    def symbols(self) -> NDArray[np.int64]:
        """[R] index in `parts` of each row's instrument."""
        return np.repeat(np.arange(len(self.parts)), [len(part.target.days) for part in self.parts])

    @property
    def standardised(self) -> NDArray[np.float32]:
        """[R, F], scaled by training rows; rows before an instrument's first complete one are zero and never read."""
        scaled = self.standardiser.apply(self.values)
        for part, start in zip(self.parts, _starts(self.parts), strict=True):
            scaled[start : start + part.matrix.first_row] = 0.0
        return scaled

    @property
    def validated(self) -> list[str]:
        """Instruments that have validation rows."""
        return [self.parts[index].symbol for index in np.unique(self.symbols[self.split.validation])]

    @property
    def windows_from(self) -> WindowsFrom:
        """Selection of the training windows, read back from the days of the selected and of the omitted ones."""
        assert self.split.spec is not None
        available = np.concatenate(
            [part.split.train + start for part, start in zip(self.parts, _starts(self.parts), strict=True)]
        )
        omitted = np.setdiff1d(available, self.split.train)
        if len(omitted) == 0:
            return self.split.spec.windows_from
        return "recent" if self.days[omitted].max() <= self.days[self.split.train].min() else "everywhere"

    @property
    def feature_digest(self) -> str:
        """Digest of all feature matrices."""
        return _joint_digest([part.matrix.digest for part in self.parts])

    @property
    def target_digest(self) -> str:
        """Digest of all labels."""
        return _joint_digest([part.target.digest for part in self.parts])

    def labels_of(self, split: str) -> NDArray[np.int8]:
        """Return the labels of a split's rows."""
        rows: Rows = getattr(self.split, split)
        return self.labels[rows]

    def label_ends(self, rows: Rows) -> pd.DatetimeIndex:
        """Return the day of the last bar that each row's label depends on; the row's own instrument has that bar."""
        return self.days[rows + self.parts[0].target.spec.horizon]

    def dataset(self, device: torch.device) -> WindowDataset:
        """Return the same data on a device."""
        return WindowDataset(self.standardised, self.labels, self.context_length, device, self.symbols)


def stack_windows(
    parts: Sequence[InstrumentData], context_length: int, *, validate_on: Collection[str] | None = None
) -> WindowedData:
    """Stack the instruments, select the training windows of the split spec, fit the standardiser on their rows.

    Instruments outside of `validate_on` (default: all of them) are used for training only.
    """
    placed = list(zip(parts, _starts(parts), strict=True))
    validated = [(part, start) for part, start in placed if validate_on is None or part.symbol in validate_on]
    split = Split(
        train=np.concatenate([part.split.train + start for part, start in placed]),
        validation=np.concatenate([part.split.validation + start for part, start in validated]),
        test=np.concatenate([part.split.test + start for part, start in validated]),
        spec=parts[0].split.spec,
    )
    split = _select_train_windows(split, parts)
    values = np.concatenate([part.matrix.values for part in parts])
    standardiser = Scaler.fit(values, _covered(split.train, context_length, len(values)))
    return WindowedData(parts=tuple(parts), split=split, standardiser=standardiser, context_length=context_length)


def merge_train_validation(prepared: WindowedData) -> WindowedData:
    """Merge training and validation rows into one training split, for the final training before the test.

    Validation is then empty. Both splits were purged: validation labels end before the first test day, training labels
    before that. Instruments used for training only have no validation rows and add none.
    """
    split = prepared.split
    rows = np.union1d(split.train, split.validation)
    if split.spec is not None:
        last = prepared.label_ends(rows).max().date()
        assert last <= split.spec.validation_end, f"a training label reaches {last}, after {split.spec.validation_end}"
    return _on_rows(prepared, train=rows, test=split.test)


def walk_forward_fold(prepared: WindowedData, year: int) -> WindowedData:
    """Return one calendar year's test rows as the test, and add earlier test rows to the training rows.

    The split must be a merged one. An earlier row is added if its whole label interval lies before the year's first
    session, less the split's embargo: the last labels before the year are purged, as in every split.
    """
    split, days = prepared.split, prepared.days
    assert len(split.validation) == 0
    embargo = split.spec.embargo if split.spec is not None else 0
    borders = [
        start + int(part.target.days.searchsorted(pd.Timestamp(year, 1, 1)))
        for start, part in zip(_starts(prepared.parts), prepared.parts, strict=True)
    ]
    horizon = prepared.parts[0].target.spec.horizon
    ends = split.test + horizon + embargo
    earlier = split.test[ends < np.array(borders)[prepared.symbols[split.test]]]
    return _on_rows(prepared, train=np.union1d(split.train, earlier), test=split.test[days[split.test].year == year])


def _on_rows(prepared: WindowedData, *, train: Rows, test: Rows) -> WindowedData:
    """Replace the rows of training and test, empty the validation and fit the standardiser anew."""
    standardiser = Scaler.fit(prepared.values, _covered(train, prepared.context_length, len(prepared.values)))
    split = replace(prepared.split, train=train, validation=np.array([], dtype=np.int64), test=test)
    return replace(prepared, split=split, standardiser=standardiser)


def _starts(parts: Sequence[InstrumentData]) -> list[int]:
    lengths = [len(part.target.days) for part in parts]
    return [sum(lengths[:index]) for index in range(len(parts))]


def _select_train_windows(split: Split, parts: Sequence[InstrumentData]) -> Split:
    """Return the split with the number of training windows of its spec: the newest days, or a sample with a fixed seed."""
    count = split.spec.train_windows if split.spec else None
    if split.spec is None or count is None:
        return split
    available = len(split.train)
    fix = f"there are {available:,} training windows; give at most that, or more instruments as SYMBOLS."
    require(count <= available, "WINDOWS", count, fix)
    days = np.concatenate([part.target.days.to_numpy() for part in parts])
    newest_first = split.train[np.argsort(days[split.train], kind="stable")][::-1]
    recent = split.spec.windows_from == "recent"
    order = newest_first if recent else np.random.default_rng(0).permutation(newest_first)
    return replace(split, train=np.sort(order[:count]))


def _covered(rows: Rows, context_length: int, n_rows: int) -> Rows:
    """Return all rows inside the windows that end on these rows."""
    edges = np.zeros(n_rows + 1, dtype=np.int64)
    np.add.at(edges, rows - (context_length - 1), 1)
    np.add.at(edges, rows + 1, -1)
    return np.flatnonzero(np.cumsum(edges[:-1]) > 0)


def _joint_digest(digests: list[str]) -> str:
    return digests[0] if len(digests) == 1 else digest_bytes(*(digest.encode() for digest in digests))
