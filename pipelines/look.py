"""Opening the test days: recorded before the first prediction, refused a second time, and everything that is seen is logged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import expit

from pipelines import figures
from pipelines.assembly import Assembled
from pipelines.evaluation import MODEL, Evaluation, Moved, Said, difference, evaluate
from pipelines.evaluation_table import print_evaluation
from pipelines.final_options import EvaluateOptions
from pipelines.rebuild import Rebuilt, final_run, rebuilt
from pipelines.retraining import retrained
from pipelines.study import baseline_rows
from research.models.baselines import BASELINES
from research.runtime import choose_device, hardware
from research.spec import InputError
from research.tracking import query, schema
from research.tracking.provenance import Provenance, provenance
from research.tracking.query import RunRecord
from research.tracking.registry import note_tested
from research.tracking.runs import RunLog
from research.tracking.store import Store
from research.training.checkpoint import load_weights
from research.training.metrics import alarm, logits_of, reliability
from research.training.verification import rolling_rate, thresholds
from research.windows.dataset import joined, predict

ROLLING = "rolling_prior"


@dataclass(frozen=True, kw_only=True)
class Looks:
    """Evaluations that came before."""

    same: int
    """Of the same final run on the same snapshot."""
    any: int
    """Of any final run on the same snapshot and question: each of them has made these days a little less unseen."""


def look(store: Store, options: EvaluateOptions, console: Console) -> str:
    """Evaluate a final run on its test days; returns the run id of the evaluation.

    `InputError` where that was done before and `again` was not asked for.
    """
    final = final_run(store, budget=options.budget, horizon=options.horizon, run=options.run)
    _require_first(looks_before(store, final), final, options)
    known = rebuilt(store, final)
    code = provenance(hardware(choose_device("cpu")))
    # Two that look at the same moment: the second counts when the run of the first is there.
    with store.one_at_a_time(f"look-{final.tags[schema.TARGET_DIGEST]}"):
        before = looks_before(store, final)
        _require_first(before, final, options)
        log = _opened(store, final, known, before, code)
    with log.ending():
        trained = _last_training(known.found)
        said = say(trained, _probabilities(store, final, known, trained))
        rules = thresholds(*_validation_days(store, final))
        found = evaluate(said, rules)
        log.artifacts(lambda folder: _write(folder, said, found, code))
        moved: Moved | None = None
        if options.walk_forward:
            later = retrained(store, final, said, trained, say, log.run_id, console)
            moved = Moved(evaluation=evaluate(later, rules), against_frozen=difference(later, said))
            log.artifacts(lambda folder: later.table().to_parquet(folder / schema.WALK_FORWARD_FILE, index=False))
    spread = {schema.LEAST_SEED_SPREAD: min(float(one.std()) for one in said.seeds.values())}
    further = moved.metrics() if moved else {}
    metrics = {**found.metrics(), **further, **spread, "n_params": final.metrics["n_params"]}
    log.finish("complete", metrics=metrics, tags={schema.ALARM: alarm(found.scores)})
    note_tested(store, final.run_id, log.run_id)
    print_evaluation(final, said, found, before.same, before.any, log.run_id, console, moved)
    return log.run_id


def _require_first(before: Looks, final: RunRecord, options: EvaluateOptions) -> None:
    if before.same and not options.again:
        raise InputError(
            f"RUN={final.run_id[:12]}: its test days have been opened ({before.same} before). Another look is no test; "
            "make ui shows what was found, AGAIN=1 looks again and is marked."
        )


def looks_before(store: Store, final: RunRecord) -> Looks:
    """Evaluations of any outcome: one that crashed may have been seen too."""
    snapshot, target = final.tags[schema.SNAPSHOT_DIGEST], final.tags[schema.TARGET_DIGEST]
    runs = query.with_tag(store, final.experiment_id, schema.SNAPSHOT_DIGEST, snapshot, kinds=("evaluation",))
    alike = [one for one in runs if one.tags[schema.TARGET_DIGEST] == target]
    return Looks(same=sum(one.tags[schema.FINAL_RUN] == final.run_id for one in runs), any=len(alike))


def say(found: Assembled, seeds: dict[int, NDArray[np.float64]]) -> Said:
    """What the ensemble and every reference, fitted on the training rows, say of the test rows."""
    prepared = found.prepared
    rows = prepared.split.test
    fitted = baseline_rows(found, "test")
    references = {name: logits_of(baseline(fitted)) for name, baseline in BASELINES.items()}
    return Said(
        days=prepared.days[rows],
        symbols=np.array([part.symbol for part in prepared.parts])[prepared.symbols[rows]],
        label_ends=prepared.label_ends(rows),
        labels=prepared.labels_of("test"),
        volatility=found.volatility[rows],
        logits={
            MODEL: logits_of(np.mean(list(seeds.values()), axis=0)),
            "prior": references["prior"],
            ROLLING: logits_of(_rolling(found)),
            **{name: logits for name, logits in references.items() if name != "prior"},
        },
        seeds=seeds,
        base_rate=float(prepared.labels_of("train").mean()),
    )


def _last_training(found: Assembled) -> Assembled:
    """Training and validation rows as one, for the model's features and for those of the baselines."""
    prepared = joined(found.prepared)
    same = found.stationary is found.prepared
    return replace(found, prepared=prepared, stationary=prepared if same else joined(found.stationary))


def _probabilities(store: Store, final: RunRecord, known: Rebuilt, found: Assembled) -> dict[int, NDArray[np.float64]]:
    """Seed -> probabilities of the test rows."""
    dataset = found.prepared.dataset(torch.device("cpu"))
    rows = dataset.rows(found.prepared.split.test)
    told = {}
    for one in query.children(store, final.experiment_id, final.run_id):
        weights = store.local_artifact(one.run_id, schema.WEIGHTS_FILE)
        model = load_weights(known.spec.architecture, weights, base_width=known.spec.training.base_width)
        told[int(one.params["seed"])] = expit(predict(model, dataset, rows))
    return told


def _rolling(found: Assembled) -> NDArray[np.float64]:
    """Share of positives among the year of labels that was known at each test row's close, of its own instrument."""
    prepared, test = found.prepared, found.prepared.split.test
    places = prepared.symbols
    rates = np.empty(len(test))
    for place, part in enumerate(prepared.parts):
        mine = places[test] == place
        first = int(np.argmax(places == place))
        rates[mine] = rolling_rate(part.target.labels, test[mine] - first, part.target.spec.horizon)
    return rates


def _validation_days(store: Store, final: RunRecord) -> tuple[NDArray[np.float64], NDArray[np.int8]]:
    """Probabilities and labels of the chosen trial, which had not been trained on these days."""
    table = query.predictions(store, final.tags[schema.TRAINED_FROM])
    return table["probability"].to_numpy(np.float64), table["label"].to_numpy(np.int8)


def _opened(store: Store, final: RunRecord, known: Rebuilt, before: Looks, code: Provenance) -> RunLog:
    """The run that says that the test days were opened, before anything is computed on them."""
    study = known.study
    rows = study.prepared.split.test
    days = study.prepared.days[rows]
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
            **study.tags(),
            **code.tags("pipelines.evaluate"),
            **{name: final.tags[name] for name in (schema.TRAINED_FROM, schema.CONFIG_FINGERPRINT, schema.FINAL_FINGERPRINT)},
            schema.FINAL_RUN: final.run_id,
            schema.LOOKS_BEFORE: str(before.any),
            **second,
        },
        inputs=study.inputs(),
    )


def _write(folder: Path, said: Said, found: Evaluation, code: Provenance) -> None:
    from sklearn.metrics import roc_curve

    said.table().to_parquet(folder / schema.TEST_PREDICTIONS_FILE, index=False)
    probabilities = expit(said.logits[MODEL])
    table = reliability(probabilities, said.labels)
    figures.save(figures.reliability(table, float(said.labels.mean())), folder / "reliability.png")
    false_positive, true_positive, _ = roc_curve(said.labels, said.logits[MODEL])
    figures.save(figures.roc(false_positive, true_positive, found.scores.auc, found.scores.auc_se), folder / "roc.png")
    code.write(folder)
