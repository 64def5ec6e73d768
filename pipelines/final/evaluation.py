"""Opening the test days: recorded before the first prediction, refused a second time, and everything that is seen is logged."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure
from rich.console import Console
from scipy.special import expit

from pipelines.final.calibration import calibration_maps
from pipelines.final.options import EvaluateOptions
from pipelines.final.predictions import chosen_thresholds, holdout_predictions, rows_before_test, seed_logits, seed_models
from pipelines.final.rebuild import ReproducedTask, rebuilt
from pipelines.final.recovery import close_dead_runs
from pipelines.final.table import print_evaluation
from pipelines.final.walk_forward import evaluate_walk_forward, plan_of
from pipelines.sweep.driver_lock import DriverLease
from pipelines.trial import figures
from pipelines.trial.task_record import task_inputs, task_tags
from research.cli.next_steps import print_next
from research.errors import InputError
from research.evaluation.holdout import (
    MODEL,
    Evaluation,
    HoldoutPredictions,
    TestSetAccesses,
    WalkForwardEvaluation,
    difference,
    evaluate,
)
from research.evaluation.metrics import alarm, reliability
from research.runtime import choose_device, hardware
from research.tracking import query, schema
from research.tracking.process_identity import ProcessId
from research.tracking.provenance import Provenance, provenance
from research.tracking.query import RunRecord
from research.tracking.registry import note_tested
from research.tracking.run_lookup import final_run
from research.tracking.run_writer import RunLog
from research.tracking.store import Store
from research.tracking.test_set_access import (
    by_question,
    is_of_the_question,
    questions_as_text,
    shares_days,
    shares_instruments,
)


def open_test_set(store: Store, options: EvaluateOptions, console: Console) -> str:
    """Evaluate a final run on its test days; returns the run id of the evaluation.

    `InputError` where that was done before and `again` was not asked for.
    """
    close_dead_runs(store)
    final = final_run(store, budget=options.budget, horizon=options.horizon, run=options.run)
    _require_first(earlier_accesses(store, final), final, options)
    known = rebuilt(store, final)
    code = provenance(hardware(choose_device("cpu")))
    # Whatever can be missing is read before the days are opened: a look that fails is a look.
    trained, maps = rows_before_test(known.found), calibration_maps(store, final)
    rules = chosen_thresholds(store, final, maps)
    models = seed_models(store, final, known)
    plan = plan_of(store, final, maps) if options.walk_forward else None
    # Two that look at the same moment: the second counts when the run of the first is there.
    # And two of different questions: both may open the same days.
    with store.exclusive_lock("look"):
        before = earlier_accesses(store, final)
        _require_first(before, final, options)
        log = _opened(store, final, known, before, code)
    with log.ending(), DriverLease(log):
        said = holdout_predictions(trained, seed_logits(models, trained), maps)
        found = evaluate(said, rules)
        log.artifacts(lambda folder: _write(folder, said, found, code))
        moved: WalkForwardEvaluation | None = None
        if plan:
            later = evaluate_walk_forward(plan, said, trained, partial(holdout_predictions, maps=maps), log.run_id, console)
            moved = WalkForwardEvaluation(evaluation=evaluate(later, rules), against_frozen=difference(later, said))
            log.artifacts(lambda folder: later.table().to_parquet(folder / schema.WALK_FORWARD_FILE, index=False))
    spread = {schema.LEAST_SEED_SPREAD: min(float(expit(one).std()) for one in said.seeds.values())}
    further = moved.metrics() if moved else {}
    metrics = {**found.metrics(), **further, **spread, "n_params": final.metrics["n_params"]}
    log.finish("complete", metrics=metrics, tags={schema.ALARM: alarm(found.scores)})
    if not before.same:
        note_tested(store, final.run_id, log.run_id)
    print_evaluation(final, said, found, before, log.run_id, console, moved)
    print_next(console, options.store, f"make promote RUN={final.run_id[:12]}", "make ui", "make compare")
    return log.run_id


def _require_first(before: TestSetAccesses, final: RunRecord, options: EvaluateOptions) -> None:
    if before.same and not options.again:
        raise InputError(
            f"RUN={final.run_id[:12]}: its test days have been opened ({before.same} before). Another look is no test; "
            "make ui shows what was found, AGAIN=1 looks again and is marked."
        )


def earlier_accesses(store: Store, final: RunRecord) -> TestSetAccesses:
    """Evaluations of any outcome: one that crashed may have been seen too."""
    every, experiments = query.evaluations(store), query.experiments(store)
    digest = final.tags[schema.TARGET_DIGEST]
    alike = [one for one in every if is_of_the_question(one, final.params, final.experiment_id, digest)]
    others = [one for one in alike if one.tags[schema.FINAL_RUN] != final.run_id]
    related = [one for one in others if one.tags[schema.CONFIG_FINGERPRINT] == final.tags[schema.CONFIG_FINGERPRINT]]
    known = {one.run_id for one in alike}
    elsewhere = (one for one in every if one.run_id not in known and _opened_the_days(one, final))
    return TestSetAccesses(
        same=len(alike) - len(others),
        related=len(related),
        any=len(alike),
        others=by_question(elsewhere, experiments),
    )


def _opened_the_days(evaluation: RunRecord, final: RunRecord) -> bool:
    return shares_days(evaluation.params, final.params) and shares_instruments(evaluation.params, final.params)


def _opened(store: Store, final: RunRecord, known: ReproducedTask, before: TestSetAccesses, code: Provenance) -> RunLog:
    """The run that says that the test days were opened, before anything is computed on them."""
    task = known.task
    rows = task.prepared.split.test
    days = task.prepared.days[rows]
    second = {schema.SECOND_LOOK: f"{before.same} before"} if before.same else {}
    return RunLog.start(
        store,
        experiment_id=final.experiment_id,
        kind="evaluation",
        name=f"evaluation {final.name.removeprefix('final ')}",
        params={
            **final.params,
            "test_start": f"{days.min():%Y-%m-%d}",
            "test_rows": len(rows),
        },
        tags={
            **task_tags(task),
            **code.tags("tapescale evaluate"),
            **{name: final.tags[name] for name in (schema.TRAINED_FROM, schema.CONFIG_FINGERPRINT, schema.FINAL_FINGERPRINT)},
            schema.FINAL_RUN: final.run_id,
            schema.LOOKS_BEFORE: str(before.any),
            schema.LOOKS_RELATED: str(before.related),
            schema.LOOKS_OTHER: str(sum(before.others.values())),
            **({schema.QUESTIONS_BEFORE: questions_as_text(before.others)} if before.others else {}),
            schema.OWNER: ProcessId.mine().text(token="", seen=time.time()),
            **second,
        },
        inputs=task_inputs(task),
    )


def _write(folder: Path, said: HoldoutPredictions, found: Evaluation, code: Provenance) -> None:
    from sklearn.metrics import roc_curve

    said.table().to_parquet(folder / schema.TEST_PREDICTIONS_FILE, index=False)
    figures.save(_reliability(said), folder / "reliability.png")
    false_positive, true_positive, _ = roc_curve(said.labels, said.logits[MODEL])
    figures.save(figures.roc(false_positive, true_positive, found.scores.auc, found.scores.auc_se), folder / "roc.png")
    code.write(folder)


def _reliability(said: HoldoutPredictions) -> Figure:
    """The model's answers, and beside them those before calibration, or after one that it does not carry."""
    other = "temperature" if said.carried == "none" else "none"
    mine, beside = (reliability(expit(said.calibrated[name]), said.labels) for name in (said.carried, other))
    titles = {"none": "uncalibrated"}
    return figures.reliability(
        mine,
        float(said.labels.mean()),
        name=titles.get(said.carried, said.carried),
        beside=(titles.get(other, f"{other}, not carried"), beside),
    )
