"""The best configurations again on fresh seeds: what is repeated, what it says, and that it is repeated once."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from pipelines.sweep.replicates import best_configurations, replicate_jobs, replicated
from pipelines.sweep.search_space import first_suggestions, trial_spec
from pipelines.sweep.state import Sweep
from pipelines.trial.job import TrialResult
from research.models.budget import Budget, architectures_for
from research.tracking import schema
from tests.pipelines.sweep.test_search_space import FIXED, SPACE, complete
from tests.support.small_sweeps import children_of, copy_of, run

ARCHITECTURES = architectures_for(Budget.parse("20K"))
DEEP, WIDE = (trial_spec(one, FIXED, ARCHITECTURES) for one in first_suggestions(ARCHITECTURES, SPACE))


def trial(number: int, loss: float, spec: object = DEEP, seed: int = 7) -> TrialResult:
    spec = replace(spec, training=replace(spec.training, seed=seed))  # type: ignore[type-var,attr-defined]
    return replace(complete(loss), run_id=f"run-{number}", number=number, spec=spec)


def test_the_best_of_different_configurations_are_chosen() -> None:
    failed = replace(trial(3, 0.1), outcome="diverged", scores=None)
    trials = [trial(0, 0.5, WIDE), trial(1, 0.4), trial(2, 0.3, seed=8), failed]
    assert [one.number for one in best_configurations(trials, 3)] == [2, 0]
    assert [one.number for one in best_configurations(trials, 1)] == [2]


def test_replicates_change_the_seed_alone() -> None:
    jobs = list(replicate_jobs([trial(4, 0.3)], 3))
    assert [job.spec.training.seed for job in jobs] == [8, 9, 10]
    assert {replace(job.spec, training=replace(job.spec.training, seed=7)) for job in jobs} == {DEEP}
    assert {job.spec.config_fingerprint for job in jobs} == {DEEP.config_fingerprint}
    assert len({job.spec.fingerprint for job in jobs} | {DEEP.fingerprint}) == 4
    assert {job.name for job in jobs} == {f"0004.s{seed} {DEEP.architecture.label}" for seed in (8, 9, 10)}


def test_mean_and_deviation_are_those_of_the_fresh_seeds_alone() -> None:
    chosen = [trial(0, 0.10), trial(1, 0.20, WIDE)]
    runs = [trial(0, 0.4, seed=8), trial(0, 0.6, seed=9), replace(trial(0, 0.1, seed=10), outcome="diverged")]
    (row,) = replicated(chosen, [*runs, trial(5, 9.9, replace(WIDE, training=replace(WIDE.training, dropout=0.33)))])
    assert (row.rank, row.losses, row.failed) == (1, (0.4, 0.6), 1)
    assert (row.mean, row.sd) == (pytest.approx(0.5), pytest.approx(0.2 / math.sqrt(2)))
    assert row.metrics()["sweep/replicates_1_mean"] == row.mean
    assert row.metrics()["sweep/replicates_1_chosen_val_loss"] == 0.10


def test_one_replicate_has_no_deviation() -> None:
    (row,) = replicated([trial(0, 0.1)], [trial(0, 0.4, seed=8)])
    assert math.isnan(row.sd)
    assert "sweep/replicates_1_sd" not in row.metrics()


@pytest.fixture(scope="module")
def sweep(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Sweep:
    root = copy_of(migrated_store, tmp_path_factory.mktemp("replicates"))
    run(root, trials=2)
    return run(root, trials=2, replicates=2, replicate_best=1)


def test_a_finished_sweep_can_be_replicated(sweep: Sweep) -> None:
    best = sweep.best
    assert best is not None
    assert best.spec is not None
    runs = [one for one in children_of(sweep) if one.kind == "replicate"]
    assert [(one.params["seed"], one.params["number"], one.outcome) for one in runs] == [
        (seed, best.number, "complete") for seed in (1, 2)
    ]
    for one in runs:
        assert one.tags[schema.CONFIG_FINGERPRINT] == best.spec.config_fingerprint
        assert one.tags[schema.REPLICATE_OF] == best.run_id
    losses = [one.metrics["val_loss"] for one in runs]
    parent = sweep.context.store.client.get_run(sweep.log.run_id).data
    assert parent.metrics["sweep/replicates_1_mean"] == np.mean(losses)
    assert parent.metrics["sweep/replicates_1_sd"] == np.std(losses, ddof=1)
    assert parent.metrics["sweep/replicates_1_n"] == 2
    assert parent.metrics["sweep/replicates_1_chosen_val_loss"] == best.val_loss
    assert f"| {best.name} | {best.val_loss:.4f} | {np.mean(losses):.4f}" in parent.tags[schema.NOTE]


def test_replicates_are_no_trials_of_the_search(sweep: Sweep) -> None:
    parent = sweep.context.store.client.get_run(sweep.log.run_id).data
    assert parent.metrics["sweep/trials_complete"] == 2
    assert parent.tags[schema.BEST_RUN] in {one.run_id for one in sweep.trials}
    assert len(sweep.proposer.study.trials) == 2


def test_a_replicate_leaves_no_weights(sweep: Sweep) -> None:
    files = sweep.context.store.client.list_artifacts(sweep.replicates[0].run_id)
    assert schema.PREDICTIONS_FILE in {file.path for file in files}
    assert schema.WEIGHTS_FILE not in {file.path for file in files}


def test_more_replicates_train_only_the_missing_ones(sweep: Sweep) -> None:
    before = {one.run_id for one in children_of(sweep)}
    more = run(sweep.options.store, trials=2, replicates=3, replicate_best=1)
    (added,) = [one for one in children_of(more) if one.run_id not in before]
    assert (added.kind, added.params["seed"]) == ("replicate", 3)
    parent = more.context.store.client.get_run(more.log.run_id).data
    assert parent.metrics["sweep/replicates_1_n"] == 3
