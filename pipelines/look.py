"""Opening the test days: recorded before the first prediction, refused a second time, and everything that is seen is logged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from matplotlib.figure import Figure
from numpy.typing import NDArray
from rich.console import Console
from scipy.special import expit

from pipelines import figures
from pipelines.assembly import Assembled
from pipelines.calibrating import carried, unseen_validation
from pipelines.evaluation import MODEL, Evaluation, Said, evaluate
from pipelines.evaluation_table import print_evaluation
from pipelines.final_options import EvaluateOptions
from pipelines.rebuild import Rebuilt, final_run, rebuilt
from pipelines.study import baseline_rows
from research.models.baselines import BASELINES
from research.runtime import choose_device, hardware
from research.spec import InputError
from research.tracking import query, schema
from research.tracking.provenance import Provenance, provenance
from research.tracking.query import RunRecord
from research.tracking.runs import RunLog
from research.tracking.store import Store
from research.training.calibration import METHODS, Method, fitted
from research.training.checkpoint import load_weights
from research.training.ensemble import ensemble
from research.training.metrics import logits_of, reliability
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
    before = looks_before(store, final)
    if before.same and not options.again:
        raise InputError(
            f"RUN={final.run_id[:12]}: its test days have been opened ({before.same} before). Another look is no test; "
            "make ui shows what was found, AGAIN=1 looks again and is marked."
        )
    known = rebuilt(store, final)
    code = provenance(hardware(choose_device("cpu")))
    log = _opened(store, final, known, before, code)
    with log.ending():
        said = say(store, final, known)
        found = evaluate(said, _thresholds(store, final))
        log.artifacts(lambda folder: _write(folder, said, found, code))
    log.finish("complete", metrics={**found.metrics(), "n_params": final.metrics["n_params"]})
    print_evaluation(final, said, found, before.same, before.any, log.run_id, console)
    return log.run_id


def looks_before(store: Store, final: RunRecord) -> Looks:
    """Evaluations of any outcome: one that crashed may have been seen too."""
    snapshot, target = final.tags[schema.SNAPSHOT_DIGEST], final.tags[schema.TARGET_DIGEST]
    runs = query.with_tag(store, final.experiment_id, schema.SNAPSHOT_DIGEST, snapshot, kinds=("evaluation",))
    alike = [one for one in runs if one.tags[schema.TARGET_DIGEST] == target]
    return Looks(same=sum(one.tags[schema.FINAL_RUN] == final.run_id for one in runs), any=len(alike))


def say(store: Store, final: RunRecord, known: Rebuilt) -> Said:
    """What the ensemble and every reference say of the test days."""
    found = _last_training(known.found)
    prepared = found.prepared
    rows = prepared.split.test
    seeds = _logits(store, final, known, found)
    calibrated = _calibrated(store, final, ensemble(np.stack(list(seeds.values()))))
    labels = prepared.labels_of("test")
    fitted = baseline_rows(found, "test")
    references = {name: logits_of(baseline(fitted)) for name, baseline in BASELINES.items()}
    return Said(
        days=prepared.days[rows],
        symbols=np.array([part.symbol for part in prepared.parts])[prepared.symbols[rows]],
        label_ends=prepared.label_ends(rows),
        labels=labels,
        volatility=found.volatility[rows],
        logits={
            MODEL: calibrated[_method(final)],
            "prior": references["prior"],
            ROLLING: logits_of(_rolling(found)),
            **{name: logits for name, logits in references.items() if name != "prior"},
        },
        seeds=seeds,
        calibrated=calibrated,
        carried=_method(final),
        interval=carried(store, final).interval,
        base_rate=float(prepared.labels_of("train").mean()),
    )


def _last_training(found: Assembled) -> Assembled:
    """Training and validation rows as one, for the model's features and for those of the baselines."""
    prepared = joined(found.prepared)
    same = found.stationary is found.prepared
    return replace(found, prepared=prepared, stationary=prepared if same else joined(found.stationary))


def _logits(store: Store, final: RunRecord, known: Rebuilt, found: Assembled) -> dict[int, NDArray[np.float64]]:
    """Seed -> logits of the test rows."""
    dataset = found.prepared.dataset(torch.device("cpu"))
    rows = dataset.rows(found.prepared.split.test)
    told = {}
    for one in query.children(store, final.experiment_id, final.run_id):
        weights = store.local_artifact(one.run_id, schema.WEIGHTS_FILE)
        model = load_weights(known.spec.architecture, weights, base_width=known.spec.training.base_width)
        told[int(one.params["seed"])] = predict(model, dataset, rows)
    return told


def _calibrated(store: Store, final: RunRecord, logits: NDArray[np.float64]) -> dict[str, NDArray[np.float64]]:
    """The logits under every map: the one that the model carries, and those that it might have been given."""
    unseen = unseen_validation(store, final.experiment_id, final.tags[schema.TRAINED_FROM])
    maps = {method: fitted(method, *unseen) for method in METHODS}
    maps[_method(final)] = carried(store, final).calibration
    return {method: one(logits) for method, one in maps.items()}


def _method(final: RunRecord) -> Method:
    """The calibration that the model carries; those trained before there was any have none."""
    return str(final.params.get("calibration", "none"))  # type: ignore[return-value]


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


def _thresholds(store: Store, final: RunRecord) -> dict[str, float]:
    """Chosen on validation days as models saw them that had not been trained on them, calibrated as the answers are."""
    logits, labels = unseen_validation(store, final.experiment_id, final.tags[schema.TRAINED_FROM])
    return thresholds(expit(carried(store, final).calibration(logits)), labels)


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
    figures.save(_reliability(said), folder / "reliability.png")
    false_positive, true_positive, _ = roc_curve(said.labels, said.logits[MODEL])
    figures.save(figures.roc(false_positive, true_positive, found.scores.auc, found.scores.auc_se), folder / "roc.png")
    code.write(folder)


def _reliability(said: Said) -> Figure:
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
