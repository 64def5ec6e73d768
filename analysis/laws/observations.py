"""Tables of losses and sizes, checked when they are made."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike, NDArray

from analysis.laws.forms import Array
from research.errors import InputError, require

SAME_BUDGET = 1.25
"""Ratio of sizes below which they are one budget: the tolerance of a budget's label."""
WIDEST_BUDGET = 1.6
MAX_BUDGETS = 8
"""Number of groups into which a continuum of sizes is cut."""


@dataclass(frozen=True, kw_only=True)
class Observations:
    """Losses with their sizes, one row per training run; made and checked by `observations`."""

    n: Array
    """Parameters, (I,)."""
    d: Array | None
    """Training tokens, (I,)."""
    u: Array | None
    """Unique tokens, (I,); the training tokens by default."""
    loss: Array
    """Losses, (I,)."""
    cluster: NDArray[np.int64]
    """Index from 0 of the group that a bootstrap draws together, (I,)."""

    def __len__(self) -> int:
        return len(self.n)

    def variables(self) -> dict[str, Array]:
        """Return the columns that exist, by the names that laws use."""
        return {name: column for name, column in (("n", self.n), ("d", self.d), ("u", self.u)) if column is not None}

    def cells(self) -> list[NDArray[np.intp]]:
        """Return the groups of rows that differ by the seed alone, that is, share N, D, U and cluster."""
        keys = np.stack([*self.variables().values(), self.cluster.astype(np.float64)], axis=1)
        cell = np.unique(keys, axis=0, return_inverse=True)[1].ravel()
        return np.split(np.argsort(cell, kind="stable"), np.cumsum(np.bincount(cell))[:-1])

    def rows(self, keep: NDArray[np.bool_]) -> Observations:
        """Return the selected rows, with clusters renumbered."""
        _, cluster = np.unique(self.cluster[keep], return_inverse=True)
        d = None if self.d is None else self.d[keep]
        u = None if self.u is None else self.u[keep]
        return Observations(n=self.n[keep], d=d, u=u, loss=self.loss[keep], cluster=cluster)


def observations(
    *,
    n: ArrayLike,
    loss: ArrayLike,
    d: ArrayLike | None = None,
    unique: ArrayLike | None = None,
    cluster: ArrayLike | None = None,
) -> Observations:
    """Return a table of columns of equal length; `InputError` for a column that is not positive, finite and numeric.

    A cluster is one size and one label of `cluster`, for example an architecture. Without labels it is one cell of
    (N, D, U), whose rows differ by the seed alone.
    """
    columns = {"n": _positive("n", n), "loss": _positive("loss", loss)}
    if d is not None:
        columns["d"] = _positive("d", d)
    require(unique is None or d is not None, "unique", "given", "it needs the tokens seen too; give d.")
    if d is not None:
        columns["u"] = columns["d"] if unique is None else _positive("unique", unique)
    for name, column in columns.items():
        require(len(column) == len(columns["n"]), name, f"{len(column)} rows", f"n has {len(columns['n'])}; give as many.")
    require(len(columns["n"]) > 0, "n", "no rows", "give one row per training run.")
    keys = [columns[name] for name in ("n", "d", "u") if name in columns]
    if cluster is not None:
        labels = np.asarray(cluster)
        require(labels.shape == columns["n"].shape, "cluster", f"{labels.size} rows", f"n has {len(columns['n'])}.")
        keys = [columns["n"], np.unique(labels.astype(str), return_inverse=True)[1].astype(np.float64)]
    index = np.unique(np.stack(keys, axis=1), axis=0, return_inverse=True)[1].ravel()
    return Observations(n=columns["n"], d=columns.get("d"), u=columns.get("u"), loss=columns["loss"], cluster=index)


def budgets(n: Array) -> NDArray[np.int64]:
    """Return the budget of every row, numbered from 0 by size, (I,).

    Sizes within 25% of their neighbour are one budget. If that chains sizes that differ by more than 60%, the sizes are a
    continuum, which is cut into at most 8 groups with equal numbers of distinct sizes.
    """
    sizes, index = np.unique(n, return_inverse=True)
    group = np.concatenate([[0], np.cumsum(sizes[1:] > SAME_BUDGET * sizes[:-1])])
    first = np.searchsorted(group, np.arange(group[-1] + 1))
    if (sizes / sizes[first][group]).max() > WIDEST_BUDGET:
        group = np.arange(len(sizes)) * min(MAX_BUDGETS, len(sizes)) // len(sizes)
    return np.asarray(group[index], dtype=np.int64)


def read_csv(
    path: Path, *, n: str, loss: str, d: str | None = None, unique: str | None = None, cluster: str | None = None
) -> Observations:
    """Read the named columns of a CSV file with a header; raise `InputError` with column, line and value if one is bad."""
    require(path.is_file(), "CSV", path, "no such file; give the path of a table with a header line.")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = list(csv.DictReader(file))
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"CSV={path}: not a text table ({error}); give comma-separated values.") from None
    require(bool(rows), "CSV", path, "no rows; give a header line and one line per training run.")
    for flag, name in (("N", n), ("LOSS", loss), ("D", d), ("UNIQUE", unique), ("CLUSTER", cluster)):
        require(name is None or name in rows[0], flag, name, f"no such column; {path.name} has {', '.join(map(str, rows[0]))}.")
    return observations(
        n=_numbers(rows, n, path),
        loss=_numbers(rows, loss, path),
        d=_numbers(rows, d, path) if d else None,
        unique=_numbers(rows, unique, path) if unique else None,
        cluster=[row[cluster] for row in rows] if cluster else None,
    )


def _numbers(rows: list[dict[str, str]], column: str, path: Path) -> list[float]:
    """Return a column of positive numbers; raise `InputError` with the line of the first cell that is none."""
    values = []
    for line, row in enumerate(rows, start=2):
        try:
            value = float(row[column])
        except (TypeError, ValueError):
            raise InputError(
                f"{column}={row[column]}: line {line} of {path.name} is no number; correct or remove it."
            ) from None
        if not (np.isfinite(value) and value > 0):
            raise InputError(f"{column}={row[column]}: line {line} of {path.name} is not above zero; correct or remove it.")
        values.append(value)
    return values


def _positive(name: str, values: ArrayLike) -> Array:
    try:
        column = np.asarray(values, dtype=np.float64)
    except (TypeError, ValueError):
        raise InputError(f"{name}={values!r:.60}: not numbers; give one number per training run.") from None
    require(column.ndim == 1, name, f"shape {column.shape}", "give one number per training run.")
    bad_rows = np.flatnonzero(~(np.isfinite(column) & (column > 0)))
    if len(bad_rows):
        raise InputError(f"{name}={column[bad_rows[0]]:g}: row {bad_rows[0]} is not above zero; give positive numbers.")
    return column
