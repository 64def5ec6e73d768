"""The search space of a sweep, and the conversion of a suggestion to a trial's spec.

The architecture is searched as shape, heads and feed-forward ratio: an index into a list of architectures
teaches a sampler nothing about its neighbours.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution

from pipelines.options import SweepOptions
from research.errors import InputError, require
from research.models.budget import extremes
from research.spec import ArchitectureSpec, OptimizerName, TaskSpec, TrainingSpec, TrialSpec

Suggested = dict[str, Any]
STRUCTURE = ("shape", "n_heads", "ff_ratio", "batch_size")
"""Suggested names that decide the computation of a step, without dropout and optimizer settings."""


@dataclass(frozen=True, kw_only=True)
class SearchSpace:
    """Ranges of the training settings, stored as parameters of the parent run."""

    learning_rate: tuple[float, float] = (1e-4, 1e-2)
    """Peak learning rate, searched on a log scale."""
    weight_decay: tuple[float, float] = (1e-4, 3e-1)
    """Decoupled decay, log scale."""
    dropout: tuple[float, float] = (0.0, 0.4)
    warmup_steps: tuple[int, int] = (0, 100)
    """Optimizer steps."""
    batch_size: tuple[int, ...] = (64, 128, 256)

    def __post_init__(self) -> None:
        for name in ("learning_rate", "weight_decay", "dropout", "warmup_steps"):
            low, high = getattr(self, name)
            lowest = 0 if name in ("dropout", "warmup_steps") else 1e-12
            log = "" if lowest == 0 else ", positive on a log scale, as in 0.0001 0.01"
            fix = f"give the lower end and the upper end{log}."
            require(lowest <= low <= high < math.inf, name, f"{low:g} {high:g}", fix)
        require(self.dropout[1] < 1, "dropout", self.dropout[1], "give a probability below 1.")
        fitting = bool(self.batch_size) and all(size >= 1 for size in self.batch_size)
        require(fitting, "batch_sizes", " ".join(map(str, self.batch_size)), "give one or more positive whole numbers.")

    @classmethod
    def of_options(cls, options: SweepOptions) -> SearchSpace:
        """Return the ranges of a sweep's options."""
        return cls(
            learning_rate=options.learning_rate,
            weight_decay=options.weight_decay,
            dropout=options.dropout,
            warmup_steps=options.warmup,
            batch_size=tuple(sorted(set(options.batch_sizes))),
        )

    def for_training(self, n_train: int, epochs: int) -> SearchSpace:
        """Return the space with a warm-up of at most half of the shortest training, that of the largest batch."""
        fewest_steps = epochs * math.ceil(n_train / max(self.batch_size))
        low, high = self.warmup_steps
        most = fewest_steps // 2
        require(low <= most, "warmup", low, f"the shortest training has {fewest_steps} steps; start at {most} or below.")
        return replace(self, warmup_steps=(low, min(high, most)))

    def describe(self) -> dict[str, str]:
        """Return the ranges as parameters of the parent run."""
        return {f"search_{name}": " .. ".join(str(bound) for bound in bounds) for name, bounds in asdict(self).items()}


@dataclass(frozen=True, kw_only=True)
class FixedSettings:
    """Settings of a trial that are not searched."""

    task: TaskSpec
    epochs: int
    patience: int
    seed: int
    base_width: int = 0
    optimizer: OptimizerName = "adamw"


def distributions(space: SearchSpace, architectures: list[ArchitectureSpec]) -> dict[str, BaseDistribution]:
    """Return the distribution of each name. A feed-forward ratio is searched only for shapes that have several."""
    shapes = sorted({_shape(a) for a in architectures}, key=_shape_key)
    low, high = space.warmup_steps
    found: dict[str, BaseDistribution] = {
        "shape": CategoricalDistribution(shapes),
        "n_heads": CategoricalDistribution(sorted({a.n_heads for a in architectures})),
        "learning_rate": FloatDistribution(*space.learning_rate, log=True),
        "weight_decay": FloatDistribution(*space.weight_decay, log=True),
        "dropout": FloatDistribution(*space.dropout),
        "warmup_steps": IntDistribution(low, high),
        "batch_size": CategoricalDistribution(space.batch_size),
    }
    ratios = sorted({ratio for shape in shapes for ratio in _choices(shape, architectures)})
    return {**found, "ff_ratio": CategoricalDistribution(ratios)} if ratios else found


def suggest(trial: optuna.Trial, space: SearchSpace, architectures: list[ArchitectureSpec]) -> Suggested:
    """Return the sampler's suggestion for a whole trial."""
    known = distributions(space, architectures)
    for name in ("shape", "n_heads", "ff_ratio", "learning_rate", "weight_decay", "dropout", "warmup_steps", "batch_size"):
        if name != "ff_ratio" or _choices(trial.params["shape"], architectures):
            _ask(trial, name, known[name])
    return dict(trial.params)


def structure_of(suggested: Suggested) -> Suggested:
    """Return the part that trials of a stack have in common: the architecture and the batch size."""
    return {name: value for name, value in suggested.items() if name in STRUCTURE}


def expressible(suggested: Suggested, space: SearchSpace, architectures: list[ArchitectureSpec]) -> Suggested:
    """Return the part of a suggestion that the present grid and ranges contain, so that a sampler can learn from it.

    It equals `suggested` if and only if the suggestion could be proposed today.
    """
    known = distributions(space, architectures)
    kept = {name: value for name, value in suggested.items() if name in known and _contains(known[name], value)}
    # Shape and ratio go together: a ratio stands in a suggestion exactly where there is a choice.
    fits = "shape" in kept and ("ff_ratio" in kept) == bool(_choices(kept["shape"], architectures))
    return kept if fits else {name: value for name, value in kept.items() if name not in ("shape", "ff_ratio")}


def trial_spec(suggested: Mapping[str, Any], fixed: FixedSettings, architectures: list[ArchitectureSpec]) -> TrialSpec:
    """Return the spec of a suggestion. Raises `InputError` if a suggested name is not used."""
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
        base_width=fixed.base_width,
        optimizer=fixed.optimizer,
    )
    if left:
        raise InputError(f"searched name {sorted(left)[0]}: nothing consumes it; remove it from the search space or use it.")
    return TrialSpec(task=fixed.task, architecture=architecture, training=training)


def first_suggestions(
    architectures: list[ArchitectureSpec], space: SearchSpace, known: Iterable[Suggested] = ()
) -> list[Suggested]:
    """Return the deepest and the widest architecture, with settings from the middle of every range.

    Shapes with a `known` trial are left out, so that a larger grid is tried at its new ends only.
    """
    seen = {suggested.get("shape") for suggested in known}
    middle = {
        "learning_rate": (space.learning_rate[0] * space.learning_rate[1]) ** 0.5,
        "weight_decay": (space.weight_decay[0] * space.weight_decay[1]) ** 0.5,
        "dropout": sum(space.dropout) / 2,
        "warmup_steps": sum(space.warmup_steps) // 2,
        "batch_size": space.batch_size[len(space.batch_size) // 2],
    }
    return [{**_structure(a, architectures), **middle} for a in extremes(architectures) if _shape(a) not in seen]


def _structure(chosen: ArchitectureSpec, architectures: list[ArchitectureSpec]) -> Suggested:
    structure: Suggested = {"shape": _shape(chosen), "n_heads": chosen.n_heads}
    searched = _choices(_shape(chosen), architectures)
    return {**structure, "ff_ratio": _ratio(chosen)} if searched else structure


def _ask(trial: optuna.Trial, name: str, d: BaseDistribution) -> None:
    if isinstance(d, CategoricalDistribution):
        trial.suggest_categorical(name, d.choices)
    elif isinstance(d, FloatDistribution):
        trial.suggest_float(name, d.low, d.high, log=d.log)
    else:
        assert isinstance(d, IntDistribution)
        trial.suggest_int(name, d.low, d.high)


def _contains(distribution: BaseDistribution, value: Any) -> bool:
    if isinstance(distribution, CategoricalDistribution):
        return value in distribution.choices
    assert isinstance(distribution, (FloatDistribution, IntDistribution))
    return bool(distribution.low <= value <= distribution.high)


def _choices(shape: str, architectures: list[ArchitectureSpec]) -> list[int]:
    """Return the feed-forward ratios to choose from, or nothing if only one fits the budget."""
    ratios = _ratios(shape, architectures)
    return ratios if len(ratios) > 1 else []


def _ratios(shape: str, architectures: list[ArchitectureSpec]) -> list[int]:
    """Return the feed-forward ratios with which a shape fits the budget."""
    return sorted({_ratio(a) for a in architectures if _shape(a) == shape})


def _shape(a: ArchitectureSpec) -> str:
    return f"d{a.d_model} L{a.n_layers}"


def _shape_key(shape: str) -> tuple[int, int]:
    width, depth = shape.split()
    return int(width[1:]), int(depth[1:])


def _ratio(a: ArchitectureSpec) -> int:
    return a.d_ff // a.d_model
