"""Evaluation of predictions on the test days: scores, references, calibration, subgroups, decisions. Numbers only."""

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
    """Earlier evaluations on the same test days."""

    same: int
    """Evaluations of the same final run."""
    related: int
    """Evaluations of other final runs of its configuration, which differ by seeds or calibration."""
    any: int
    """Evaluations of any final run of the question on some of these days: each makes them less unseen."""
    others: Mapping[str, int] = field(default_factory=dict)
    """Other question -> its evaluations on some of these days; not in the numbers above, and no gate uses them."""


@dataclass(frozen=True, kw_only=True)
class HoldoutPredictions:
    """Predictions of the model and its references on the test rows."""

    days: pd.DatetimeIndex
    symbols: NDArray[np.str_]
    label_ends: pd.DatetimeIndex
    labels: NDArray[np.int8]
    volatility: Array
    """Log of the trailing volatility known on each row's day."""
    logits: dict[str, Array]
    """`model` and every reference -> one logit per row."""
    seeds: dict[int, Array]
    """Seed -> its logits; their mean probability is the model's before calibration."""
    calibrated: dict[str, Array]
    """`none` and every map -> the model's logits under it."""
    carried: str
    """Map that the model carries; `model` has its logits."""
    interval: SeedInterval | None
    """The model's interval for further seeds."""
    base_rate: float
    """Share of positives among the training labels."""
    horizon: int
    """Sessions ahead; labels of neighbouring days overlap by one session less."""

    def of(self, mask: NDArray[np.bool_]) -> HoldoutPredictions:
        """Return the predictions of some of the rows."""
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
        """Return several parts as one; the base rate is that of the first."""

        def whole(column: Callable[[HoldoutPredictions], Any]) -> Any:
            return np.concatenate([column(part) for part in parts])

        first = parts[0]
        return replace(
            first,
            days=pd.DatetimeIndex(whole(lambda part: part.days.to_numpy())),
            symbols=whole(lambda part: part.symbols),
            label_ends=pd.DatetimeIndex(whole(lambda part: part.label_ends.to_numpy())),
            labels=whole(lambda part: part.labels),
            volatility=whole(lambda part: part.volatility),
            logits={name: np.concatenate([part.logits[name] for part in parts]) for name in first.logits},
            seeds={seed: np.concatenate([part.seeds[seed] for part in parts]) for seed in first.seeds},
            calibrated={name: np.concatenate([part.calibrated[name] for part in parts]) for name in first.calibrated},
        )

    def table(self) -> pd.DataFrame:
        """Return one row per test day and instrument: label, and probabilities and losses of model, seeds and references."""
        model = self.logits[MODEL]
        columns = {"date": self.days, "symbol": self.symbols, "label_end": self.label_ends, "label": self.labels}
        forecast = {"probability": expit(model), "logit": model, "loss": row_losses(model, self.labels)}
        others = {f"seed_{seed}": logits for seed, logits in self.seeds.items()}
        others |= {f"calibration_{name}": logits for name, logits in self.calibrated.items()}
        others |= {name: logits for name, logits in self.logits.items() if name != MODEL}
        return pd.DataFrame({**columns, **forecast, **{name: expit(logits) for name, logits in others.items()}})


@dataclass(frozen=True, kw_only=True)
class BaselineComparison:
    """The model compared with one reference, paired by day."""

    loss: float
    """The reference's mean log loss."""
    difference: Difference
    """The model's loss minus the reference's: negative where the model is better."""
    dm_p: float
    """Two-sided p-value of the Diebold-Mariano test."""
    skill: float
    """1 - loss of the model / loss of the reference."""
    auc: float

    @property
    def is_significant(self) -> bool:
        """Whether interval and test agree on a difference."""
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
    """Results of one evaluation on the test days."""

    scores: Scores
    loss: Difference
    """Mean loss with the interval for the noise of the days."""
    auc: Difference | None
    """Area under the ROC curve with the same interval; None with one class only."""
    against: dict[str, BaselineComparison]
    brier: BrierDecomposition
    ece_by_chance: float
    """Calibration error that true probabilities like these would show."""
    average_precision: float
    calibrations: dict[str, CalibrationScores]
    """`none` and every map -> scores of the model's probabilities under it."""
    carried: str
    """Map that all other numbers are computed with."""
    seed_coverage: float
    """Share of a left-out seed's answers inside the interval around the others; NaN without an interval."""
    years: tuple[Subgroup, ...]
    regimes: tuple[Subgroup, ...]
    acting: dict[str, DecisionMetrics]
    """Rule -> result on the test days of its threshold, which was chosen on validation days."""

    def metrics(self) -> dict[str, float]:
        """Return all numbers under the names of the log, without NaN."""
        numbers = {f"test_{name}": float(value) for name, value in asdict(self.scores).items()}
        numbers |= {"test_loss_low": self.loss.low, "test_loss_high": self.loss.high, "test_pr_auc": self.average_precision}
        numbers["test_ece_by_chance"] = self.ece_by_chance
        numbers |= {"test_auc_low": self.auc.low, "test_auc_high": self.auc.high} if self.auc else {}
        carried = self.calibrations[self.carried]
        numbers |= {**carried.slope.metrics("test_calibration_slope"), **carried.bias.metrics("test_calibration_bias")}
        numbers["seed_interval_coverage"] = self.seed_coverage
        for map_name, effects in self.calibrations.items():
            numbers |= {f"calibration_{map_name}/{name}": value for name, value in effects.metrics().items()}
        for name in ("reliability", "resolution", "uncertainty", "within"):
            numbers[f"test_brier_{name}"] = float(getattr(self.brier, name))
        for name, comparison in self.against.items():
            loss, skill, change = comparison.loss, comparison.skill, comparison.difference
            numbers |= {f"vs_{name}/loss": loss, f"vs_{name}/skill": skill, f"vs_{name}/difference": change.mean}
            numbers |= {f"vs_{name}/low": change.low, f"vs_{name}/high": change.high, f"vs_{name}/auc": comparison.auc}
            numbers[f"vs_{name}/dm_p"] = comparison.dm_p
        for kind, groups in (("year", self.years), ("regime", self.regimes)):
            for group in groups:
                values = {"n": group.rows, "base_rate": group.base_rate, "loss": group.loss, "skill": group.skill}
                numbers |= {f"{kind}_{group.name}/{name}": float(value) for name, value in {**values, "auc": group.auc}.items()}
        for rule, decision in self.acting.items():
            values = {"threshold": decision.threshold, "precision": decision.precision, "recall": decision.recall}
            counts = {"said_yes": float(decision.said_yes), "positives": float(decision.positives)}
            numbers |= {f"at_{rule.replace(' ', '_')}/{name}": value for name, value in {**values, **counts}.items()}
        return {name: value for name, value in numbers.items() if value == value}


@dataclass(frozen=True, kw_only=True)
class WalkForwardEvaluation:
    """The same model and references, trained again before each calendar year of the test days."""

    evaluation: Evaluation
    against_frozen: Difference
    """Loss of the retrained model minus loss of the model that is not retrained."""

    def metrics(self) -> dict[str, float]:
        """Return all numbers under the names of the log."""
        evaluation = self.evaluation
        loss = evaluation.loss
        numbers = {"loss": loss.mean, "low": loss.low, "high": loss.high, "auc": evaluation.scores.auc}
        differences = {name: comparison.difference for name, comparison in evaluation.against.items()}
        for name, change in {**differences, "frozen": self.against_frozen}.items():
            numbers |= {f"vs_{name}_difference": change.mean, f"vs_{name}_low": change.low, f"vs_{name}_high": change.high}
        return {f"walk_forward/{name}": value for name, value in numbers.items()}


def difference(first: HoldoutPredictions, second: HoldoutPredictions) -> Difference:
    """Return the loss of the first model minus that of the second, paired by day."""
    losses = [daily_means(row_losses(p.logits[MODEL], p.labels), p.days.to_numpy()) for p in (first, second)]
    return paired_difference(*losses)


def evaluate(predictions: HoldoutPredictions, chosen: Mapping[str, float]) -> Evaluation:
    """Return the evaluation of the predictions; `chosen` are the thresholds by rule."""
    labels, days, model_logits = predictions.labels, predictions.days.to_numpy(), predictions.logits[MODEL]
    probabilities = expit(model_logits)
    daily = {name: daily_means(row_losses(logits, labels), days) for name, logits in predictions.logits.items()}
    return Evaluation(
        scores=scores(model_logits, labels, predictions.base_rate, days),
        loss=paired_difference(daily[MODEL], np.zeros_like(daily[MODEL])),
        auc=_auc(model_logits, labels, days),
        against={name: _against(predictions, daily, name) for name in predictions.logits if name != MODEL},
        brier=brier_parts(probabilities, labels),
        ece_by_chance=calibration_error_by_chance(probabilities),
        average_precision=average_precision(probabilities, labels),
        calibrations={
            name: effect(logits, predictions.calibrated["none"], labels, days)
            for name, logits in predictions.calibrated.items()
        },
        carried=predictions.carried,
        seed_coverage=predictions.interval.coverage(np.stack(list(predictions.seeds.values())))
        if predictions.interval
        else float("nan"),
        years=tuple(_group(predictions, str(year), predictions.days.year == year) for year in np.unique(predictions.days.year)),
        regimes=_regimes(predictions),
        acting={rule: acting(probabilities, labels, threshold) for rule, threshold in chosen.items()},
    )


def _auc(logits: Array, labels: NDArray[np.int8], days: NDArray[np.generic]) -> Difference | None:
    daily = auc_by_day(logits, labels, days)
    return None if np.isnan(daily).any() else paired_difference(daily, np.zeros_like(daily))


def _against(predictions: HoldoutPredictions, daily: Mapping[str, Array], name: str) -> BaselineComparison:
    return BaselineComparison(
        loss=float(daily[name].mean()),
        difference=paired_difference(daily[MODEL], daily[name]),
        dm_p=diebold_mariano(daily[MODEL], daily[name], predictions.horizon).p_value,
        skill=1 - float(daily[MODEL].mean() / daily[name].mean()),
        auc=auc_with_error(predictions.logits[name], predictions.labels, predictions.days.to_numpy())[0],
    )


def _group(predictions: HoldoutPredictions, name: str, mask: NDArray[np.bool_]) -> Subgroup:
    labels, logits = predictions.labels[mask], predictions.logits[MODEL][mask]
    loss = row_losses(logits, labels).mean()
    prior = row_losses(predictions.logits["prior"][mask], labels).mean()
    auc, auc_se = auc_with_error(logits, labels, predictions.days.to_numpy()[mask])
    return Subgroup(
        name=name,
        rows=int(mask.sum()),
        base_rate=float(labels.mean()),
        loss=float(loss),
        skill=1 - float(loss / prior),
        auc=auc,
        auc_se=auc_se,
    )


def _regimes(predictions: HoldoutPredictions) -> tuple[Subgroup, ...]:
    """Return the thirds of the test rows by the volatility known on their day."""
    third = np.argsort(np.argsort(predictions.volatility, kind="stable")) * len(REGIMES) // len(predictions.volatility)
    return tuple(_group(predictions, name, third == index) for index, name in enumerate(REGIMES))
