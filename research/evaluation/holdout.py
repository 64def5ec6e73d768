"""The numbers of an evaluation, from what every model said of the test days. Computes; draws and writes nothing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from scipy.special import expit

from research.evaluation.calibration_effect import CalibrationScores, effect
from research.evaluation.ensemble import SeedInterval
from research.evaluation.metrics import Scores, auc_by_day, auc_with_error, calibration_error_by_chance, row_losses, scores
from research.evaluation.significance import Difference, daily_means, diebold_mariano, is_significant, paired_difference
from research.evaluation.verification import BrierDecomposition, DecisionMetrics, acting, average_precision, brier_parts

Array = NDArray[np.float64]
MODEL = "model"
REGIMES = ("calm", "usual", "stormy")


@dataclass(frozen=True, kw_only=True)
class TestSetAccesses:
    """Evaluations that came before one."""

    same: int
    """Of the same final run."""
    related: int
    """Of other final runs of its configuration: they differ by seeds or calibration."""
    any: int
    """Of any final run of the question on some of these days: each of them has made them a little less unseen."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Other question -> evaluations of it on some of these days: not in the numbers above, and no gate asks for them."""


@dataclass(frozen=True, kw_only=True)
class HoldoutPredictions:
    """What the model and its references said of the test rows."""

    days: pd.DatetimeIndex
    symbols: NDArray[np.str_]
    label_ends: pd.DatetimeIndex
    labels: NDArray[np.int8]
    volatility: Array
    """Log of the trailing volatility that was known on each row's day."""
    logits: dict[str, Array]
    """`model` and every reference -> one logit per row."""
    seeds: dict[int, Array]
    """Seed -> its logits; the mean of their probabilities is the model's before calibration."""
    calibrated: dict[str, Array]
    """`none` and every map -> the model's logits under it."""
    carried: str
    """The one that the model answers with: `model` has its logits."""
    interval: SeedInterval | None
    """What the model says of further seeds."""
    base_rate: float
    """Share of positives in what the model was trained on."""
    horizon: int
    """Sessions ahead: labels of neighbouring days overlap by one less."""

    def of(self, mask: NDArray[np.bool_]) -> HoldoutPredictions:
        """What was said of some of the rows."""
        return replace(
            self,
            days=self.days[mask],
            symbols=self.symbols[mask],
            label_ends=self.label_ends[mask],
            labels=self.labels[mask],
            volatility=self.volatility[mask],
            logits={name: logits[mask] for name, logits in self.logits.items()},
            seeds={seed: logits[mask] for seed, logits in self.seeds.items()},
            calibrated={name: logits[mask] for name, logits in self.calibrated.items()},
        )

    @classmethod
    def pooled(cls, parts: Sequence[HoldoutPredictions]) -> HoldoutPredictions:
        """One after another; the base rate is that of the first training."""

        def whole(column: Callable[[HoldoutPredictions], Any]) -> Any:
            return np.concatenate([column(part) for part in parts])

        first = parts[0]
        return replace(
            first,
            days=pd.DatetimeIndex(whole(lambda one: one.days.to_numpy())),
            symbols=whole(lambda one: one.symbols),
            label_ends=pd.DatetimeIndex(whole(lambda one: one.label_ends.to_numpy())),
            labels=whole(lambda one: one.labels),
            volatility=whole(lambda one: one.volatility),
            logits={name: np.concatenate([part.logits[name] for part in parts]) for name in first.logits},
            seeds={seed: np.concatenate([part.seeds[seed] for part in parts]) for seed in first.seeds},
            calibrated={name: np.concatenate([part.calibrated[name] for part in parts]) for name in first.calibrated},
        )

    def table(self) -> pd.DataFrame:
        """One row per test day and instrument: label, the model's probability and loss, those of seeds and references."""
        mine = self.logits[MODEL]
        columns = {"date": self.days, "symbol": self.symbols, "label_end": self.label_ends, "label": self.labels}
        forecast = {"probability": expit(mine), "logit": mine, "loss": row_losses(mine, self.labels)}
        others = {f"seed_{seed}": logits for seed, logits in self.seeds.items()}
        others |= {f"calibration_{name}": logits for name, logits in self.calibrated.items()}
        others |= {name: logits for name, logits in self.logits.items() if name != MODEL}
        return pd.DataFrame({**columns, **forecast, **{name: expit(logits) for name, logits in others.items()}})


@dataclass(frozen=True, kw_only=True)
class BaselineComparison:
    """The model beside one reference, paired by day."""

    loss: float
    """The reference's mean log loss."""
    difference: Difference
    """The model's loss minus the reference's: negative where the model is better."""
    dm_p: float
    """Of Diebold and Mariano's test that both are equally good, two-sided."""
    skill: float
    """1 - loss of the model / loss of the reference."""
    auc: float

    @property
    def is_significant(self) -> bool:
        """Whether both say that one is better."""
        return is_significant(self.difference, self.dm_p)


@dataclass(frozen=True, kw_only=True)
class Subgroup:
    """A part of the test rows: a year, or a regime of volatility."""

    name: str
    rows: int
    base_rate: float
    loss: float
    skill: float
    """Against the training prior on the same rows."""
    auc: float
    auc_se: float


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """All that is told of one look."""

    scores: Scores
    loss: Difference
    """Mean loss with the interval of the days' noise."""
    auc: Difference | None
    """The same of the area under the ROC curve; None where there is one class alone."""
    against: dict[str, BaselineComparison]
    brier: BrierDecomposition
    ece_by_chance: float
    """Calibration error that probabilities like these would show if they were true."""
    average_precision: float
    calibrations: dict[str, CalibrationScores]
    """`none` and every map -> what the model's probabilities are like under it."""
    carried: str
    """The one that all other numbers hold."""
    seed_coverage: float
    """Share of a left-out seed's answers within the interval around the others; NaN where the model has none."""
    years: tuple[Subgroup, ...]
    regimes: tuple[Subgroup, ...]
    acting: dict[str, DecisionMetrics]
    """Rule -> what its threshold, chosen on validation days, gives on the test days."""

    def metrics(self) -> dict[str, float]:
        """As they are logged."""
        told = {f"test_{name}": float(value) for name, value in asdict(self.scores).items()}
        told |= {"test_loss_low": self.loss.low, "test_loss_high": self.loss.high, "test_pr_auc": self.average_precision}
        told["test_ece_by_chance"] = self.ece_by_chance
        told |= {"test_auc_low": self.auc.low, "test_auc_high": self.auc.high} if self.auc else {}
        mine = self.calibrations[self.carried]
        told |= {**mine.slope.metrics("test_calibration_slope"), **mine.bias.metrics("test_calibration_bias")}
        told["seed_interval_coverage"] = self.seed_coverage
        for map_name, one in self.calibrations.items():
            told |= {f"calibration_{map_name}/{name}": value for name, value in one.metrics().items()}
        for name in ("reliability", "resolution", "uncertainty", "within"):
            told[f"test_brier_{name}"] = float(getattr(self.brier, name))
        for name, it in self.against.items():
            told |= {f"vs_{name}/loss": it.loss, f"vs_{name}/skill": it.skill, f"vs_{name}/difference": it.difference.mean}
            told |= {f"vs_{name}/low": it.difference.low, f"vs_{name}/high": it.difference.high, f"vs_{name}/auc": it.auc}
            told[f"vs_{name}/dm_p"] = it.dm_p
        for kind, groups in (("year", self.years), ("regime", self.regimes)):
            for group in groups:
                values = {"n": group.rows, "base_rate": group.base_rate, "loss": group.loss, "skill": group.skill}
                told |= {f"{kind}_{group.name}/{name}": float(value) for name, value in {**values, "auc": group.auc}.items()}
        for rule, found in self.acting.items():
            values = {"threshold": found.threshold, "precision": found.precision, "recall": found.recall}
            counts = {"said_yes": float(found.said_yes), "positives": float(found.positives)}
            told |= {f"at_{rule.replace(' ', '_')}/{name}": value for name, value in {**values, **counts}.items()}
        return {name: value for name, value in told.items() if value == value}


@dataclass(frozen=True, kw_only=True)
class WalkForwardEvaluation:
    """The same model and references, trained again before each calendar year of the test days."""

    evaluation: Evaluation
    against_frozen: Difference
    """Loss of the model that is trained again minus that of the one that stays as it was."""

    def metrics(self) -> dict[str, float]:
        """As they are logged."""
        found, prefix = self.evaluation, "walk_forward"
        told = {"loss": found.loss.mean, "low": found.loss.low, "high": found.loss.high, "auc": found.scores.auc}
        for name, one in {
            **{name: one.difference for name, one in found.against.items()},
            "frozen": self.against_frozen,
        }.items():
            told |= {f"vs_{name}_difference": one.mean, f"vs_{name}_low": one.low, f"vs_{name}_high": one.high}
        return {f"{prefix}/{name}": value for name, value in told.items()}


def difference(one: HoldoutPredictions, other: HoldoutPredictions) -> Difference:
    """Loss of the first model minus that of the second, paired by day."""
    mine, its = (daily_means(row_losses(said.logits[MODEL], said.labels), said.days.to_numpy()) for said in (one, other))
    return paired_difference(mine, its)


def evaluate(said: HoldoutPredictions, chosen: Mapping[str, float]) -> Evaluation:
    """Every number; `chosen` are the thresholds by rule."""
    labels, days, mine = said.labels, said.days.to_numpy(), said.logits[MODEL]
    probabilities = expit(mine)
    daily = {name: daily_means(row_losses(logits, labels), days) for name, logits in said.logits.items()}
    return Evaluation(
        scores=scores(mine, labels, said.base_rate, days),
        loss=paired_difference(daily[MODEL], np.zeros_like(daily[MODEL])),
        auc=_auc(mine, labels, days),
        against={name: _against(said, daily, name) for name in said.logits if name != MODEL},
        brier=brier_parts(probabilities, labels),
        ece_by_chance=calibration_error_by_chance(probabilities),
        average_precision=average_precision(probabilities, labels),
        calibrations={name: effect(one, said.calibrated["none"], labels, days) for name, one in said.calibrated.items()},
        carried=said.carried,
        seed_coverage=said.interval.coverage(np.stack(list(said.seeds.values()))) if said.interval else float("nan"),
        years=tuple(_group(said, str(year), said.days.year == year) for year in np.unique(said.days.year)),
        regimes=_regimes(said),
        acting={rule: acting(probabilities, labels, threshold) for rule, threshold in chosen.items()},
    )


def _auc(logits: Array, labels: NDArray[np.int8], days: NDArray[np.generic]) -> Difference | None:
    daily = auc_by_day(logits, labels, days)
    return None if np.isnan(daily).any() else paired_difference(daily, np.zeros_like(daily))


def _against(said: HoldoutPredictions, daily: Mapping[str, Array], name: str) -> BaselineComparison:
    return BaselineComparison(
        loss=float(daily[name].mean()),
        difference=paired_difference(daily[MODEL], daily[name]),
        dm_p=diebold_mariano(daily[MODEL], daily[name], said.horizon).p_value,
        skill=1 - float(daily[MODEL].mean() / daily[name].mean()),
        auc=auc_with_error(said.logits[name], said.labels, said.days.to_numpy())[0],
    )


def _group(said: HoldoutPredictions, name: str, mask: NDArray[np.bool_]) -> Subgroup:
    labels, logits = said.labels[mask], said.logits[MODEL][mask]
    found = row_losses(logits, labels).mean()
    prior = row_losses(said.logits["prior"][mask], labels).mean()
    auc, auc_se = auc_with_error(logits, labels, said.days.to_numpy()[mask])
    return Subgroup(
        name=name,
        rows=int(mask.sum()),
        base_rate=float(labels.mean()),
        loss=float(found),
        skill=1 - float(found / prior),
        auc=auc,
        auc_se=auc_se,
    )


def _regimes(said: HoldoutPredictions) -> tuple[Subgroup, ...]:
    """Thirds of the test rows by the volatility that was known on their day."""
    place = np.argsort(np.argsort(said.volatility, kind="stable")) * len(REGIMES) // len(said.volatility)
    return tuple(_group(said, name, place == number) for number, name in enumerate(REGIMES))
