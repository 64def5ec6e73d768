"""The trial that every tracking bench writes: 25 parameters, 12 tags, 100 epochs of 4 curves, 3 small artifacts."""

from __future__ import annotations

from pathlib import Path

PARAMS: dict[str, str | int | float | bool] = {f"param_{n:02d}": n / 7 for n in range(25)}
TAGS = {f"tag_{n:02d}": f"value {n}" for n in range(12)}
EPOCHS = 100
CURVES = ("epoch/train_loss", "epoch/val_loss", "epoch/learning_rate", "epoch/seconds")
ARTIFACTS = ("spec.json", "curve.csv", "environment.json")


def curve_value(name: str, epoch: int) -> float:
    """Some number that differs from epoch to epoch."""
    return (len(name) + epoch) / 97


def write_artifacts(folder: Path) -> None:
    """The three files."""
    for name in ARTIFACTS:
        (folder / name).write_text("0.123456789\n" * 100)
