"""What the sampler may choose, and how a choice becomes a trial's spec.

The architecture is searched as shape, heads and feed-forward ratio: an index into a list of architectures
teaches a sampler nothing about its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna

from research.models.architectures import extremes
from research.spec import ArchitectureSpec, InputError, StudySpec, TrainingSpec, TrialSpec

Suggested = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """Ranges of the training settings. They are parameters of the parent run; nothing else bounds a trial."""

    learning_rate: tuple[float, float] = (1e-4, 1e-2)
    """Peak learning rate, searched on a log scale."""
    weight_decay: tuple[float, float] = (1e-4, 3e-1)
    """Decoupled decay, log scale."""
    dropout: tuple[float, float] = (0.0, 0.4)
    warmup_steps: tuple[int, int] = (0, 100)
    """Optimizer steps."""
    batch_size: tuple[int, ...] = (64, 128, 256)

    def for_training(self, n_train: int, epochs: int) -> SearchSpace:
        """The same space with a warm-up that ends by half of the shortest training, that of the largest batch."""
        fewest_steps = epochs * math.ceil(n_train / max(self.batch_size))
        low, high = self.warmup_steps
        return replace(self, warmup_steps=(low, min(high, fewest_steps // 2)))

    def describe(self) -> dict[str, str]:
        """Parameters of the parent run."""
        return {f"search_{name}": " .. ".join(str(bound) for bound in bounds) for name, bounds in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class Fixed:
    """What the search leaves alone."""

    study: StudySpec
    epochs: int
    patience: int
    seed: int


def suggest(trial: optuna.Trial, space: SearchSpace, architectures: list[ArchitectureSpec]) -> Suggested:
    """Ask the sampler for a whole trial."""
    shapes = sorted({_shape(a) for a in architectures}, key=_shape_key)
    shape = trial.suggest_categorical("shape", shapes)
    trial.suggest_categorical("n_heads", sorted({a.n_heads for a in architectures}))
    if len(ratios := _ratios(shape, architectures)) > 1:
        trial.suggest_categorical("ff_ratio", ratios)
    trial.suggest_float("learning_rate", *space.learning_rate, log=True)
    trial.suggest_float("weight_decay", *space.weight_decay, log=True)
    trial.suggest_float("dropout", *space.dropout)
    trial.suggest_int("warmup_steps", *space.warmup_steps)
    trial.suggest_categorical("batch_size", space.batch_size)
    return dict(trial.params)


def trial_spec(suggested: Mapping[str, Any], fixed: Fixed, architectures: list[ArchitectureSpec]) -> TrialSpec:
    """The spec that a suggestion stands for. Every suggested name must be used: one left over is an error."""
    left = dict(suggested)
    shape = left.pop("shape")
    ratios = _ratios(shape, architectures)
    wanted = (shape, left.pop("n_heads"), left.pop("ff_ratio") if len(ratios) > 1 else ratios[0])
    architecture = next(a for a in architectures if (_shape(a), a.n_heads, _ratio(a)) == wanted)
    training = TrainingSpec(
        learning_rate=left.pop("learning_rate"),
        weight_decay=left.pop("weight_decay"),
        dropout=left.pop("dropout"),
        warmup_steps=left.pop("warmup_steps"),
        batch_size=left.pop("batch_size"),
        epochs=fixed.epochs,
        patience=fixed.patience,
        seed=fixed.seed,
    )
    if left:
        raise InputError(f"searched name {sorted(left)[0]}: nothing consumes it; remove it from the search space or use it.")
    return TrialSpec(study=fixed.study, architecture=architecture, training=training)


def admits(suggested: Suggested, space: SearchSpace, architectures: list[ArchitectureSpec]) -> bool:
    """Whether the present grid and ranges could have proposed this, so that a sampler can learn from it."""
    ranges = {name: bounds for name, bounds in asdict(space).items() if name != "batch_size"}
    if not all(low <= suggested[name] <= high for name, (low, high) in ranges.items()):
        return False
    ratios = _ratios(suggested["shape"], architectures)
    # A ratio stands in a suggestion exactly where there is a choice; elsewhere the proposal would be another one.
    ratio_fits = suggested["ff_ratio"] in ratios if "ff_ratio" in suggested else len(ratios) == 1
    return (
        ratio_fits
        and ("ff_ratio" in suggested) == (len(ratios) > 1)
        and suggested["n_heads"] in {a.n_heads for a in architectures}
        and suggested["batch_size"] in space.batch_size
    )


def first_suggestions(architectures: list[ArchitectureSpec], space: SearchSpace) -> list[Suggested]:
    """The deepest and the widest architecture with settings from the middle of every range."""
    middle = {
        "learning_rate": (space.learning_rate[0] * space.learning_rate[1]) ** 0.5,
        "weight_decay": (space.weight_decay[0] * space.weight_decay[1]) ** 0.5,
        "dropout": sum(space.dropout) / 2,
        "warmup_steps": sum(space.warmup_steps) // 2,
        "batch_size": space.batch_size[len(space.batch_size) // 2],
    }
    return [{**_structure(a, architectures), **middle} for a in extremes(architectures)]


def _structure(chosen: ArchitectureSpec, architectures: list[ArchitectureSpec]) -> Suggested:
    structure: Suggested = {"shape": _shape(chosen), "n_heads": chosen.n_heads}
    searched = len(_ratios(_shape(chosen), architectures)) > 1
    return {**structure, "ff_ratio": _ratio(chosen)} if searched else structure


def _ratios(shape: str, architectures: list[ArchitectureSpec]) -> list[int]:
    """Feed-forward ratios with which a shape fits the budget; a single one is no choice and is not searched."""
    return sorted({_ratio(a) for a in architectures if _shape(a) == shape})


def _shape(a: ArchitectureSpec) -> str:
    return f"d{a.d_model} L{a.n_layers}"


def _shape_key(shape: str) -> tuple[int, int]:
    width, depth = shape.split()
    return int(width[1:]), int(depth[1:])


def _ratio(a: ArchitectureSpec) -> int:
    return a.d_ff // a.d_model
