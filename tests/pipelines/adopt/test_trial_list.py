from __future__ import annotations

import json
from typing import Any

import pytest

from pipelines.adopt.formats import parse
from pipelines.adopt.record import LegacyStudy, Parsed, fingerprints
from pipelines.adopt.size import size_of

SHAPE = {"d_model": 24, "n_layers": 3, "n_heads": 4, "d_ff_ratio": 2, "learning_rate": 0.002, "dropout": 0.1}


def trial(number: int, value: float | None, state: str = "COMPLETE", forced: bool = False, **more: Any) -> dict[str, Any]:
    given = {f"forced_{name}": one for name, one in SHAPE.items()} if forced else {}
    attributes = {"duration_sec": 4.5, "forced_extreme": forced, **given, **({} if value is None else {"val_auc": value})}
    return {
        "number": number,
        "value": value,
        "state": f"TrialState.{state}",
        "params": {} if forced else SHAPE,
        "user_attrs": attributes,
        **more,
    }


def read(content: object, name: str = "phase9_3K_h5_all_trials") -> Parsed:
    return parse(json.dumps(content).encode(), name)


def test_the_file_name_says_which_study_it_is() -> None:
    (one,) = read([trial(0, 0.7)]).records
    assert one.study == LegacyStudy(phase="phase9", budget="3K", horizon=5)
    assert one.study.label == "phase9_3K_h5"


def test_an_auc_is_never_a_loss() -> None:
    (one,) = read([trial(0, 0.7)]).records
    assert (one.metric, one.value, one.metrics["val_auc"]) == ("val_auc", 0.7, 0.7)
    assert "val_loss" not in one.metrics
    (unnamed,) = read([trial(0, 0.7, user_attrs={})]).records
    assert unnamed.metric == "legacy_value"
    (loss,) = read([trial(0, 0.7, user_attrs={"val_auc": 0.6, "val_loss": 0.7})]).records
    assert (loss.metric, loss.metrics["val_auc"]) == ("val_loss", 0.6)


def test_forced_trials_have_their_values_in_the_user_attributes() -> None:
    searched, forced = read([trial(0, 0.7), trial(1, 0.6, forced=True)]).records
    assert {name: forced.params[name] for name in ("d_model", "n_layers", "n_heads", "d_ff", "learning_rate", "dropout")} == {
        "d_model": 24,
        "n_layers": 3,
        "n_heads": 4,
        "d_ff": 48,
        "learning_rate": 0.002,
        "dropout": 0.1,
    }
    assert searched.params["d_ff"] == 48
    assert forced.params["legacy_forced_extreme"] is True


def test_the_label_is_held_against_the_counted_size() -> None:
    (one,) = read([trial(0, 0.7)]).records
    # (10*25+1)*24 + 11*24 + 3*(4*24*24 + 8*24 + 2*24*48 + 48 + 24) + 2*24 + 11*24 + 1
    assert size_of(one).counted == 21_217
    assert size_of(one).claim == "outside 25%"
    (true,) = read([trial(0, 0.7)], "phase9_20K_h5_all_trials").records
    assert size_of(true).claim == "within 25%"
    (silent,) = read([trial(0, 0.7)], "some_all_trials").records
    assert size_of(silent).claim == "no claim"


def test_the_input_shape_is_taken_from_the_file_where_it_is_there() -> None:
    given = {**SHAPE, "context_length": 30, "n_features": 5}
    (one,) = read([trial(0, 0.7, params=given)]).records
    # (10*5+1)*24 + 5*24 + 3*(4*24*24 + 8*24 + 2*24*48 + 48 + 24) + 2*24 + 5*24 + 1
    assert size_of(one).counted == 16_129
    assert size_of(one).assumed == ("patch_length=10", "patch_stride=5")


@pytest.mark.parametrize(("state", "outcome"), [("PRUNED", "pruned"), ("FAIL", "failed"), ("RUNNING", "interrupted")])
def test_a_trial_without_a_value_keeps_its_outcome(state: str, outcome: str) -> None:
    (one,) = read([trial(0, None, state)]).records
    assert (one.outcome, one.metric, one.value) == (outcome, None, None)


def test_the_sentinel_is_divergence() -> None:
    (one,) = read([trial(0, 100.0)]).records
    assert (one.outcome, one.value) == ("diverged", None)
    assert "val_auc" not in one.metrics


def test_what_cannot_be_taken_is_named_and_the_others_go_on() -> None:
    endless = trial(5, 0.5, params={**SHAPE, "learning_rate": float("nan")})
    never_ran, no_value, odd = trial(1, None, "WAITING"), trial(2, None), trial(3, 0.5, params={**SHAPE, "n_layers": 2.5})
    parsed = read([trial(0, 0.7), never_ran, no_value, odd, 17, endless, trial(4, 0.6)])
    assert [one.number for one in parsed.records] == [0, 4]
    assert [one.place for one in parsed.rejections] == ["trial 1", "trial 2", "trial 3", "entry 4", "trial 5"]


def test_names_that_mlflow_would_refuse_and_scores_that_are_no_numbers_are_made_harmless() -> None:
    attributes = {"val_auc@5": 0.7, "val_history": [0.5, 0.7], "why?": "tried"}
    (one,) = read([trial(0, 0.7, user_attrs=attributes)]).records
    assert (one.metric, one.metrics) == ("val_auc_5", {"val_auc_5": 0.7})
    assert (one.params["legacy_val_history"], one.params["legacy_why_"]) == ("[0.5, 0.7]", "tried")


def test_exact_repeats_are_trials_of_their_own_and_the_best_file_repeats_the_first() -> None:
    trials = [trial(0, 0.6), trial(1, 0.7), trial(2, 0.7), trial(3, 0.7, user_attrs={"val_auc": 0.7, "duration_sec": 9.0})]
    listed = fingerprints(read(trials).records)
    assert len(set(listed)) == 4
    best = {"budget": "3k", "horizon": 5.0, "best_trial": 1, "best_value": 0.7, "best_params": SHAPE, "best_user_attrs": {}}
    assert fingerprints(read(best, "phase9_3K_h5_best_params").records) == [listed[1]]
