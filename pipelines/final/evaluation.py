"""The evaluation of a final run on its test days: recorded before the first prediction, refused a second time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial

from rich.console import Console
from scipy.special import expit

from pipelines.final.accesses import earlier_accesses, require_first_access
from pipelines.final.calibration import CalibrationMaps, calibration_maps
from pipelines.final.evaluation_run import start_evaluation_run, write_evaluation
from pipelines.final.options import EvaluateOptions
from pipelines.final.plan import FinalTrainingPlan
from pipelines.final.predictions import chosen_thresholds, holdout_predictions, rows_before_test, seed_logits, seed_models
from pipelines.final.rebuild import ReproducedTask, rebuild_task
from pipelines.final.recovery import close_dead_runs
from pipelines.final.table import print_evaluation
from pipelines.final.walk_forward import evaluate_walk_forward, walk_forward_plan
from pipelines.sweep.driver_lock import DriverLease
from research.cli.next_steps import print_next
from research.evaluation.holdout import (
    Evaluation,
    HoldoutPredictions,
    TestSetAccesses,
    WalkForwardEvaluation,
    difference,
    evaluate,
)
from research.evaluation.metrics import alarm
from research.models.patch_transformer import PatchTransformer
from research.runtime import choose_device, hardware
from research.task.build import TaskData
from research.tracking import schema
from research.tracking.provenance import Provenance, provenance
from research.tracking.query import RunRecord
from research.tracking.registry import note_tested
from research.tracking.run_lookup import final_run
from research.tracking.run_writer import RunLog
from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class EvaluationInputs:
    """Everything that an evaluation needs, loaded before the test days are opened."""

    final: RunRecord
    reproduced: ReproducedTask
    joined: TaskData
    """The task's data with training and validation rows joined."""
    maps: CalibrationMaps
    thresholds: dict[str, float]
    """Decision rule -> threshold chosen on the validation days."""
    models: dict[int, PatchTransformer]
    """Seed -> its trained model."""
    plan: FinalTrainingPlan | None
    """Plan of the walk-forward retraining; None if it is not evaluated."""
    provenance: Provenance


@dataclass(frozen=True, kw_only=True)
class EvaluationResult:
    """Predictions and scores on the test days."""

    predictions: HoldoutPredictions
    evaluation: Evaluation
    walk_forward: WalkForwardEvaluation | None

    def metrics(self) -> dict[str, float]:
        """Return all metrics of the evaluation's run but the size of the model."""
        walk_forward = self.walk_forward.metrics() if self.walk_forward else {}
        least_spread = min(float(expit(logits).std()) for logits in self.predictions.seeds.values())
        return {**self.evaluation.metrics(), **walk_forward, schema.LEAST_SEED_SPREAD: least_spread}


def open_test_set(store: Store, options: EvaluateOptions, screen: Console) -> str:
    """Evaluate a final run on its test days and return the run id of the evaluation.

    Raises `InputError` if the final run was evaluated before and `options.again` is not set.
    """
    close_dead_runs(store)
    final = final_run(store, budget=options.budget, horizon=options.horizon, run=options.run)
    require_first_access(earlier_accesses(store, final), final, again=options.again)
    inputs = load_inputs(store, final, walk_forward=options.walk_forward)
    log, accesses = _record_access(store, inputs, again=options.again)
    with log.ending(), DriverLease(log):
        result = _score(inputs, log, screen)
    metrics = {**result.metrics(), "n_params": final.metrics["n_params"]}
    log.finish("complete", metrics=metrics, tags={schema.ALARM: alarm(result.evaluation.scores)})
    if not accesses.same:
        note_tested(store, final.run_id, log.run_id)
    print_evaluation(final, result.predictions, result.evaluation, accesses, log.run_id, screen, result.walk_forward)
    print_next(screen, options.store, f"make promote RUN={final.run_id[:12]}", "make ui", "make compare")
    return log.run_id


def load_inputs(store: Store, final: RunRecord, *, walk_forward: bool) -> EvaluationInputs:
    """Load everything that can fail before the test set is opened: a failed evaluation still counts as an access."""
    reproduced = rebuild_task(store, final)
    maps = calibration_maps(store, final)
    return EvaluationInputs(
        final=final,
        reproduced=reproduced,
        joined=rows_before_test(reproduced.data),
        maps=maps,
        thresholds=chosen_thresholds(store, final, maps),
        models=seed_models(store, final, reproduced),
        plan=walk_forward_plan(store, final, maps, reproduced) if walk_forward else None,
        provenance=provenance(hardware(choose_device("cpu"))),
    )


def _record_access(store: Store, inputs: EvaluationInputs, *, again: bool) -> tuple[RunLog, TestSetAccesses]:
    """Start the evaluation's run; return it with the earlier accesses.

    Concurrent evaluations are serialised, so that each counts the ones started before it. The lock covers the whole store,
    because evaluations of different questions may open the same days.
    """
    with store.exclusive_lock("look"):
        accesses = earlier_accesses(store, inputs.final)
        require_first_access(accesses, inputs.final, again=again)
        log = start_evaluation_run(store, inputs.final, inputs.reproduced.task, accesses, inputs.provenance)
        return log, accesses


def _score(inputs: EvaluationInputs, log: RunLog, screen: Console) -> EvaluationResult:
    """Predict the test rows, score the predictions and log their files; retrain year by year if there is a plan for it."""
    predictions = holdout_predictions(inputs.joined, seed_logits(inputs.models, inputs.joined), inputs.maps)
    evaluation = evaluate(predictions, inputs.thresholds)
    log.artifacts(lambda folder: write_evaluation(folder, predictions, evaluation, inputs.provenance))
    if inputs.plan is None:
        return EvaluationResult(predictions=predictions, evaluation=evaluation, walk_forward=None)
    predict = partial(holdout_predictions, maps=inputs.maps)
    retrained = evaluate_walk_forward(inputs.plan, predictions, inputs.joined, predict, log.run_id, screen)
    walk_forward = WalkForwardEvaluation(
        evaluation=evaluate(retrained, inputs.thresholds), against_frozen=difference(retrained, predictions)
    )
    log.artifacts(lambda folder: retrained.table().to_parquet(folder / schema.WALK_FORWARD_FILE, index=False))
    return EvaluationResult(predictions=predictions, evaluation=evaluation, walk_forward=walk_forward)
