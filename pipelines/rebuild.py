"""A study as one of its runs saw it: the same bytes, features and labels, or an error that says what has changed."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any, get_args

from pipelines.assembly import Assembled, assemble
from pipelines.ingest import ingest
from pipelines.options import StudyOptions
from pipelines.resume import spec_of
from pipelines.study import Study, require_same_clock, study_of
from research.spec import (
    DataSpec,
    FeatureSpec,
    InputError,
    SplitSpec,
    StudySpec,
    TargetSpec,
    TrialSpec,
    parse_count,
    require,
)
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store


@dataclass(frozen=True, kw_only=True)
class Rebuilt:
    """What a run was trained for and on."""

    spec: TrialSpec
    study: Study
    found: Assembled


def rebuilt(store: Store, run: RunRecord) -> Rebuilt:
    """The study of a trial, replicate or final run, from its logged spec.

    `InputError` if its parameters are not those of its fingerprint, or if bars, features or labels are other ones today.
    """
    told = json.loads(store.local_artifact(query.holder(store, run.run_id), schema.SPEC_FILE).read_text())
    spec = spec_of(run, study_in(told["study"]))
    options = options_of(spec, thin=schema.THIN_EVIDENCE in run.tags)
    snapshot = ingest(spec.study.data.snapshot_digest, store)
    require_same_clock(options, snapshot)
    found = assemble(options, snapshot.bars, digest=snapshot.digest, source=snapshot.manifest.source)
    study = replace(study_of(options, snapshot, found), family=spec.architecture.family)
    now = study.tags()
    for tag in (schema.SNAPSHOT_DIGEST, schema.STUDY_FINGERPRINT, schema.FEATURE_DIGEST, schema.TARGET_DIGEST):
        commit = run.tags[schema.GIT_COMMIT][:12]
        fix = f"it is {now[tag]} when computed here; check out commit {commit} of the run, or sweep again."
        require(now[tag] == run.tags[tag], tag, run.tags[tag], fix)
    return Rebuilt(spec=spec, study=study, found=found)


def study_in(told: dict[str, Any]) -> StudySpec:
    """The spec that its canonical JSON describes."""
    data, features, target, split = (
        {name: value for name, value in told[part].items() if name != "spec"}
        for part in ("data", "features", "target", "split")
    )
    data |= {name: tuple(data[name]) for name in ("symbols", "validate_on")}
    split |= {name: date.fromisoformat(split[name]) for name in ("train_end", "validation_end", "test_end")}
    return StudySpec(
        data=DataSpec(**data), features=FeatureSpec(**features), target=TargetSpec(**target), split=SplitSpec(**split)
    )


def options_of(spec: TrialSpec, *, thin: bool) -> StudyOptions:
    """What the user would have to say to get this study."""
    data, features, target, split = spec.study.data, spec.study.features, spec.study.target, spec.study.split
    return StudyOptions(
        data=data.snapshot_digest,
        symbols=data.symbols,
        validate_on=data.validate_on,
        features=features.feature_set,
        index=features.index,
        volatility_index=features.volatility_index,
        horizon=target.horizon,
        task=target.kind,
        # A direction has none; the spec takes any and makes it 0.
        threshold=target.threshold or StudyOptions().threshold,
        touch=target.touch,
        shuffle_labels=target.shuffled,
        context=spec.architecture.context_length,
        windows=str(split.train_windows or ""),
        windows_from=split.windows_from,
        train_end=split.train_end,
        validation_end=split.validation_end,
        test_end=split.test_end,
        embargo=split.embargo,
        allow_thin_evidence=thin,
    )


def best_trial(store: Store, *, budget: str, horizon: int, run: str) -> RunRecord:
    """The complete trial with the lowest validation loss of a budget and horizon, or the one that `run` begins.

    `InputError` lists the candidates where the words fit several questions.
    """
    complete = _complete(store, ("trial",))
    if run:
        return _begun_by(store, run, complete, "complete trial", "make ui shows a trial's id on its page")
    best: dict[str, RunRecord] = {}
    for one in _asked(complete, budget, horizon, "make sweep first"):
        question = f"{one.experiment_id} {one.tags[schema.STUDY_FINGERPRINT]} {one.params['context_length']}"
        if question not in best or one.metrics["val_loss"] < best[question].metrics["val_loss"]:
            best[question] = one
    return _only(list(best.values()), budget, horizon)


def final_run(store: Store, *, budget: str, horizon: int, run: str) -> RunRecord:
    """The complete final run of a budget and horizon, or the one that `run` begins; `InputError` lists several."""
    complete = _complete(store, ("final",))
    if run:
        return _begun_by(store, run, complete, "complete final run", "make train makes one")
    return _only(_asked(complete, budget, horizon, "make train first"), budget, horizon)


def _complete(store: Store, kinds: Sequence[str]) -> list[RunRecord]:
    runs = query.of_kinds(store, list(query.experiments(store)), kinds)
    return [one for one in runs if one.outcome == "complete" and schema.ADOPTED_FINGERPRINT not in one.tags]


def _begun_by(store: Store, prefix: str, runs: Sequence[RunRecord], what: str, fix: str) -> RunRecord:
    found = [one for one in runs if one.run_id.startswith(prefix)]
    if not found:
        others = query.of_kinds(store, list(query.experiments(store)), get_args(schema.RunKind))
        told = ", ".join(f"it is {one.name}, a {one.kind}" for one in others if one.run_id.startswith(prefix))
        raise InputError(f"RUN={prefix}: {told or f'no {what} has an id that begins so'}; {fix}.")
    if len(found) > 1:
        raise InputError(f"RUN={prefix}: {len(found)} ids begin so; give more letters of it.")
    return found[0]


def _asked(runs: Sequence[RunRecord], budget: str, horizon: int, fix: str) -> list[RunRecord]:
    size = parse_count(budget, "BUDGET", "parameters")
    found = [
        one
        for one in runs
        if parse_count(str(one.params["budget"]), "BUDGET", "parameters") == size and one.params["horizon"] == horizon
    ]
    require(bool(found), "BUDGET", budget, f"nothing of it is complete at horizon {horizon}; {fix}.")
    return found


def _only(found: Sequence[RunRecord], budget: str, horizon: int) -> RunRecord:
    if len(found) > 1:
        listed = ", ".join(f"RUN={one.run_id[:12]} ({one.name}, {_question(one)})" for one in found)
        raise InputError(f"BUDGET={budget} HORIZON={horizon}: several answer to that; give one of {listed}.")
    return found[0]


def _question(run: RunRecord) -> str:
    said = run.params
    question = f"{said['symbol']} {said['task']} {said['threshold']}, {said['feature_set']}, context {said['context_length']}"
    # Two last trainings of one question differ by these.
    return f"{question}, seeds {said['seeds']}, calibration {said.get('calibration', 'none')}" if "seeds" in said else question
