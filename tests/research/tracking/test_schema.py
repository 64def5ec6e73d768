"""Names as people read them."""

from __future__ import annotations

from research.models.baselines import BASELINES
from research.tracking.schema import in_sentence


def test_every_baseline_reads_naturally_in_a_sentence() -> None:
    said = {name: in_sentence(one.title) for name, one in BASELINES.items()}
    assert said == {
        "prior": "the training prior",
        "volatility": "the volatility regression",
        "logistic": "the logistic regression",
        "lightgbm": "LightGBM",
    }
    assert in_sentence("extra_trees") == "extra_trees"
