"""The interval over seeds covers what it says, also for seeds that it has not seen, and moves with nothing but the bars."""

from __future__ import annotations

import json

import numpy as np
import pytest
from scipy.special import expit

from research.evaluation.calibration import Temperature, fitted
from research.evaluation.ensemble import EnsembleOutput, load_ensemble_output, seed_interval


def seeds(count: int, rows: int = 4000) -> np.ndarray:
    """Logits of seeds that agree on a signal and differ by noise."""
    rng = np.random.default_rng(0)
    return rng.normal(-1, 0.8, rows) + 0.3 * rng.normal(size=(count, rows))


@pytest.mark.parametrize("count", [2, 3, 8])
def test_a_further_seed_lies_within_as_often_as_is_said(count: int) -> None:
    logits = seeds(count + 1)
    interval = seed_interval(logits[:count])
    said = EnsembleOutput(interval=interval)(logits[:count])
    further = expit(logits[count])
    assert ((said["low"] <= further) & (further <= said["high"])).mean() == pytest.approx(interval.level, abs=0.02)
    assert interval.coverage(logits[:count]) == pytest.approx(interval.level, abs=1e-3)


@pytest.mark.parametrize("method", ["temperature", "isotonic"])
def test_bounds_are_calibrated_as_the_answer_is_and_do_not_depend_on_other_rows(method: str) -> None:
    logits = seeds(3)
    labels = (np.random.default_rng(1).uniform(size=4000) < expit(0.5 * logits[0])).astype(np.int8)
    whole = EnsembleOutput(calibration=fitted(method, logits[0], labels), interval=seed_interval(logits))  # type: ignore[arg-type]
    said, part = whole(logits), whole(logits[:, -5:])
    assert (said["low"] <= said["probability"]).all()
    assert (said["probability"] <= said["high"]).all()
    assert all(np.array_equal(said[name][-5:], part[name]) for name in said)
    assert load_ensemble_output(json.loads(json.dumps(whole.files()))) == whole


def test_a_model_from_before_has_neither_calibration_nor_bounds() -> None:
    logits = seeds(2)
    assert EnsembleOutput().files() == {}
    assert list(load_ensemble_output({"spec": {}, "scaler": {}})(logits)) == ["probability"]
    assert EnsembleOutput()(logits)["probability"] == pytest.approx(expit(logits).mean(axis=0), abs=1e-12)
    cooler = EnsembleOutput(calibration=Temperature(temperature=2.0))(logits[:1])["probability"]
    assert cooler == pytest.approx(expit(logits[0] / 2), abs=1e-12)
