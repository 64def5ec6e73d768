"""How many independent labels there are: overlap, clustering and instruments that move together count once."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from scipy.signal import lfilter

from research.task.evidence import EvidenceFloor, SplitEvidence, effective_labels, evidence_of, thin_evidence
from research.task.windows import WindowedData, stack_windows

DAYS = pd.bdate_range("2000-01-03", periods=4000)


def coins(seed: int = 0, days: int = len(DAYS)) -> np.ndarray:
    return (np.random.default_rng(seed).random(days) < 0.3).astype(np.int8)


def clustered(seed: int = 1) -> np.ndarray:
    slow = lfilter([1], [1, -0.97], np.random.default_rng(seed).normal(size=len(DAYS)))
    return (slow > np.quantile(slow, 0.7)).astype(np.int8)


def test_independent_labels_are_worth_their_number():
    worth = [effective_labels(coins(seed), DAYS, horizon=1) for seed in range(20)]
    # The cap at the number of labels cuts the upper half of the estimates off.
    assert np.mean(worth) > 0.85 * len(DAYS)
    assert max(worth) <= len(DAYS)


def test_the_same_label_on_every_instrument_is_worth_one():
    labels = np.tile(clustered(), 5)
    days = pd.DatetimeIndex(np.tile(DAYS.to_numpy(), 5))
    assert effective_labels(labels, days, 1) == pytest.approx(effective_labels(clustered(), DAYS, 1))


def test_a_younger_instrument_may_come_first():
    """Days are put in order before neighbours are compared: labels that come in runs stay runs."""
    old, young = clustered(), clustered(2)[2000:]
    days = pd.DatetimeIndex(np.concatenate([DAYS.to_numpy(), DAYS[2000:].to_numpy()]))
    later_first = pd.DatetimeIndex(np.concatenate([DAYS[2000:].to_numpy(), DAYS.to_numpy()]))
    expected = effective_labels(np.concatenate([old, young]), days, 1)
    assert effective_labels(np.concatenate([young, old]), later_first, 1) == pytest.approx(expected)


def test_independent_instruments_add_up():
    labels = np.concatenate([coins(seed) for seed in range(5)])
    days = pd.DatetimeIndex(np.tile(DAYS.to_numpy(), 5))
    assert effective_labels(labels, days, 1) > 3.5 * effective_labels(coins(), DAYS, 1)


def test_labels_that_come_in_runs_are_worth_less_than_single_days():
    assert effective_labels(clustered(), DAYS, 1) < 0.1 * len(DAYS)


def test_overlapping_labels_count_at_most_once_per_horizon():
    assert effective_labels(coins(), DAYS, horizon=5) <= len(DAYS) / 5


def test_the_estimate_agrees_with_the_spread_of_base_rates():
    """n_eff = p (1 - p) / variance of the mean: the mean over many histories really varies that much."""
    histories = [lfilter([1], [1, -0.8], np.random.default_rng(seed).normal(size=2000)) for seed in range(300)]
    labels = [(history > 0.8).astype(np.int8) for history in histories]
    means = np.array([one.mean() for one in labels])
    truth = means.mean() * (1 - means.mean()) / means.var()
    worth = np.median([effective_labels(one, DAYS[:2000], 1) for one in labels])
    assert worth == pytest.approx(truth, rel=0.25)


def test_labels_that_never_change_have_no_error_and_no_labels_are_worth_nothing():
    assert effective_labels(np.zeros(100, np.int8), DAYS[:100], 2) == 50
    assert effective_labels(np.array([], np.int8), DAYS[:0], 1) == 0


def test_evidence_counts_days_and_touches_of_each_split(prepared: WindowedData):
    evidence = evidence_of(prepared)
    assert [one.split for one in evidence] == ["train", "validation", "test"]
    for one in evidence:
        labels = prepared.labels_of(one.split)
        assert (one.n, one.positives) == (len(labels), (labels == 1).sum())
        assert (one.days, one.rarer_days) == (len(labels), min((labels == 1).sum(), (labels == 0).sum()))
        assert one.base_rate == labels.mean()
        assert one.base_rate_error == pytest.approx(np.sqrt(labels.mean() * (1 - labels.mean()) / one.effective))
    assert thin_evidence(evidence, EvidenceFloor()) == []


@pytest.mark.parametrize(
    ("days", "rarer", "said"),
    [
        (200, 30, []),
        (199, 99, ["validation has 199 days, 99 with the rarer class (floor: 200 and 30)"]),
        (500, 29, ["validation has 500 days, 29 with the rarer class (floor: 200 and 30)"]),
        (0, 0, ["validation has 0 days, 0 with the rarer class (floor: 200 and 30)"]),
    ],
)
def test_a_split_below_the_floor_is_told(days: int, rarer: int, said: list[str]):
    evidence = [SplitEvidence(split="validation", n=1000, positives=500, days=days, rarer_days=rarer, effective=1000.0)]
    assert thin_evidence(evidence, EvidenceFloor()) == said


def test_many_instruments_on_few_days_are_little_evidence(prepared: WindowedData):
    """Thirty copies of the index have seen no day more than it."""
    (alone,) = prepared.parts
    rows = alone.split.validation[:50]
    few = replace(alone, split=replace(alone.split, validation=rows))
    found = evidence_of(stack_windows([replace(few, symbol=f"S{place}") for place in range(30)], 60))[1]
    labels = alone.target.labels[rows]
    assert (found.n, found.positives) == (1500, 30 * labels.sum())
    assert (found.days, found.rarer_days) == (50, min(labels.sum(), 50 - labels.sum()))
    assert thin_evidence([found], EvidenceFloor())


def test_the_rarer_class_may_be_the_positive_or_the_negative_one(prepared: WindowedData):
    (part,) = prepared.parts
    turned = replace(part, target=replace(part.target, labels=(1 - part.target.labels).astype(np.int8)))
    known, other = (evidence_of(stack_windows([one], 60))[0] for one in (part, turned))
    assert known.positives != other.positives
    assert known.rarer_days == other.rarer_days == min(known.positives, other.positives)


def test_an_empty_split_has_no_base_rate():
    nothing = SplitEvidence(split="test", n=0, positives=0, days=0, rarer_days=0, effective=0.0)
    assert np.isnan(nothing.base_rate)
