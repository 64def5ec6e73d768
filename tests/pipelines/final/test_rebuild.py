"""A study comes back whole from what its runs have logged, whatever was asked for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pandas as pd
import pytest

from research.errors import InputError
from research.fingerprint import canonical_json, fingerprint
from research.spec import ArchitectureSpec, TrainingSpec, TrialSpec
from research.task.build import assemble
from research.task.options import TaskOptions, options_of
from research.tracking import schema
from research.tracking.run_lookup import best_trial, final_run
from research.tracking.run_writer import RunLog
from research.tracking.spec_codec import task_spec_from_json
from research.tracking.store import Store, open_store

BOTH = ("^GSPC", "^IXIC")


@pytest.mark.parametrize(
    "asked",
    [
        {},
        {"horizon": 5, "threshold": 0.02, "touch": "close", "embargo": 3, "features": "a25", "symbol": "^IXIC"},
        {"task": "direction", "horizon": 3, "shuffle_labels": 0},
        {"symbols": BOTH, "validate_on": ("^GSPC",), "windows": "2K", "windows_from": "everywhere", "context": 30},
        {"features": "s50", "index": "^IXIC", "task": "downside"},
    ],
)
def test_a_study_comes_back_whole(asked: dict[str, Any], bundled_bars: dict[str, pd.DataFrame]) -> None:
    context = asked.get("context", 60)
    made = assemble(TaskOptions(**asked), bundled_bars, digest="0123456789abcdef", source="bundled")
    shape = ArchitectureSpec(d_model=4, n_layers=1, n_heads=1, d_ff=8, context_length=context)
    rate = {"learning_rate": 1e-3, "weight_decay": 0.0, "dropout": 0.0, "warmup_steps": 0}
    spec = TrialSpec(
        task=made.spec, architecture=shape, training=TrainingSpec(**rate, batch_size=64, epochs=1, patience=1, seed=0)
    )
    told = task_spec_from_json(json.loads(canonical_json(spec))["study"])
    assert told == made.spec
    # No source but a snapshot's own may fill in what the options leave open.
    again = assemble(options_of(spec, thin=False), bundled_bars, digest="0123456789abcdef", source="file")
    assert fingerprint(again.spec) == fingerprint(made.spec)
    assert again.prepared.target_digest == made.prepared.target_digest
    assert again.prepared.feature_digest == made.prepared.feature_digest
    assert again.prepared.split.train.tolist() == made.prepared.split.train.tolist()


def trial(store: Store, *, loss: float, threshold: float = 0.01, outcome: schema.Outcome = "complete") -> str:
    params = {"budget": "2K", "horizon": 1, "context_length": 60, "symbol": "^GSPC", "task": "threshold", "feature_set": "a25s"}
    log = RunLog.start(
        store,
        experiment_id=store.experiment("sp500"),
        kind="trial",
        name="0000",
        params={**params, "threshold": threshold},
        tags={schema.STUDY_FINGERPRINT: f"study of {threshold}"},
    )
    log.finish(outcome, metrics={"val_loss": loss})
    return log.run_id


def test_the_best_complete_trial_is_taken_and_two_questions_are_told_apart(store_root: Path) -> None:
    store = open_store(store_root)
    trial(store, loss=0.5)
    best = trial(store, loss=0.4)
    trial(store, loss=0.3, outcome="pruned")
    assert best_trial(store, budget="2000", horizon=1, run="").run_id == best
    other = trial(store, loss=0.6, threshold=0.02)
    with pytest.raises(InputError, match=rf"RUN={best[:12]} .*0\.01.*RUN={other[:12]} .*0\.02"):
        best_trial(store, budget="2K", horizon=1, run="")
    assert best_trial(store, budget="", horizon=1, run=other[:10]).run_id == other
    with pytest.raises(InputError, match="make sweep first"):
        best_trial(store, budget="2K", horizon=3, run="")


def test_letters_that_begin_no_id_or_several_are_told_apart(store_root: Path) -> None:
    store = open_store(store_root)
    trial(store, loss=0.5)
    with pytest.raises(InputError, match="RUN=zz: no complete trial has an id that begins like this; make ui shows"):
        best_trial(store, budget="", horizon=1, run="zz")
    known = trial(store, loss=0.5)
    with pytest.raises(InputError, match=f"RUN={known}: it is .*, a trial; make train makes one"):
        final_run(store, budget="", horizon=1, run=known)
    ids = [trial(store, loss=0.5) for _ in range(17)]
    # Seventeen ids begin with sixteen digits at most.
    first = next(one[0] for one in ids if sum(other[0] == one[0] for other in ids) > 1)
    with pytest.raises(InputError, match=f"RUN={first}: .* ids begin like this; give more characters"):
        best_trial(store, budget="", horizon=1, run=first)
