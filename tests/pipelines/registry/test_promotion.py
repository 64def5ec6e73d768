"""From a tested version to one in use and back: gates, aliases, what is recorded, what is asked, on real stores."""

from __future__ import annotations

import json
import socket
import subprocess
import threading
import time
from dataclasses import dataclass, replace
from pathlib import Path
from unittest.mock import patch

import pytest
from mlflow.exceptions import MlflowException
from mlflow.protos.databricks_pb2 import INTERNAL_ERROR
from rich.console import Console

from pipelines.final.evaluation import open_test_set
from pipelines.final.options import EvaluateOptions, TrainOptions
from pipelines.final.rebuild import rebuild_task
from pipelines.final.recovery import close_dead_runs
from pipelines.final.training import train_final
from pipelines.registry.gates import REFERENCES, GateEvidence, evaluate_gates, evidence_of, looks_of_others, warnings
from pipelines.registry.options import PromoteOptions
from pipelines.registry.promote import main as promote
from pipelines.registry.rollback import RollbackOptions
from pipelines.registry.rollback import main as rollback
from pipelines.serving.latest_prediction import served_model_info
from pipelines.serving.predict import PredictOptions
from pipelines.serving.predict import main as predict
from research.errors import InputError
from research.tracking import champion_history as succession
from research.tracking import query, schema
from research.tracking.champion_history import current_champions, roll_back
from research.tracking.process_identity import STALE_SECONDS, ProcessId
from research.tracking.query import RunRecord
from research.tracking.registry import chosen, holder_of, note_tested, register, register_apart
from research.tracking.run_writer import RunLog
from research.tracking.store import Store, open_store
from tests.support.small_sweeps import copy_of, run
from tests.support.verbs import commands_to_type

QUIET = Console(quiet=True)
NAME = "sp500-threshold-1pct-2K-h1"
STUDY = "0123456789abcdef"
GATES = [*(f"beats {title}" for title in REFERENCES.values()), "calibration slope", "calibration bias"]
GATES += ["clean commit", "one look", "no collapse"]
GOOD = {
    **{f"vs_{name}/{part}": value for name in REFERENCES for part, value in (("difference", -0.03), ("low", -0.05))},
    **{f"vs_{name}/high": -0.01 for name in REFERENCES},
    **{f"test_calibration_slope{part}": value for part, value in (("", 1.1), ("_low", 0.9), ("_high", 1.3))},
    **{f"test_calibration_bias{part}": value for part, value in (("", 0.01), ("_low", -0.01), ("_high", 0.02))},
    "test_loss": 0.4,
    "test_skill": 0.1,
    "test_spread": 0.1,
    "test_n": 881.0,
    schema.LEAST_SEED_SPREAD: 0.09,
}
CLEAN = {schema.GIT_COMMIT: "c" * 40, schema.GIT_DIRTY: "false", schema.SNAPSHOT_DIGEST: "s", schema.TARGET_DIGEST: "t"}


@dataclass(frozen=True, kw_only=True)
class Invented:
    """A final run with its evaluation as other programs would have left them."""

    store: Store
    final: RunRecord
    version: str


def invented(store: Store, looks: int = 1) -> Invented:
    """Every gate is passed where there is one look."""
    experiment = store.experiment("sp500-threshold-1pct")
    trial = closed(store, experiment, "trial", {schema.ALARM: "none"}, {"val_loss": 0.4})
    run_id = closed(store, experiment, "final", {**CLEAN, schema.TRAINED_FROM: trial}, {}, model=True)
    closed(store, experiment, "final_seed", CLEAN, {}, parent=run_id)
    for _ in range(looks):
        told = {**CLEAN, schema.FINAL_RUN: run_id, schema.LOOKS_BEFORE: "0"}
        closed(store, experiment, "evaluation", told, GOOD)
    version = register_apart(store, name=NAME, run_id=run_id, val_loss=0.4, study=STUDY, description="final: d4")
    (record,) = [one for one in query.runs_of_kind(store, [experiment], ("final",)) if one.run_id == run_id]
    return Invented(store=store, final=record, version=version.version)


def closed(
    store: Store,
    experiment: str,
    kind: schema.RunKind,
    tags: dict[str, str],
    metrics: dict[str, float],
    *,
    parent: str | None = None,
    model: bool = False,
) -> str:
    params = {"budget": "2K", "horizon": 1, "test_start": "2015-07-01"}
    log = RunLog.start(store, experiment_id=experiment, kind=kind, name=kind, params=params, tags=tags, parent_id=parent)
    if model:
        log.artifacts(lambda folder: write_model(folder / schema.MODEL_FOLDER))
    log.finish("complete", metrics=metrics)
    return log.run_id


def write_model(folder: Path) -> None:
    package = folder / "code" / f"{schema.OWN_CODE}0"
    package.mkdir(parents=True)
    (package / "__init__.py").touch()
    (folder / "MLmodel").write_text("{}")


def alias(store: Store, name: str) -> str | None:
    held = holder_of(store, NAME, name)
    return held and str(held.version)


def tags(store: Store, version: str) -> dict[str, str]:
    return dict(store.client.get_model_version(NAME, version).tags)


def ask_for(one: Invented, *, force: bool = False) -> None:
    promote(PromoteOptions(run=one.final.run_id[:12], force=force, store=one.store.root))


def not_passed(evidence: GateEvidence) -> dict[str, str]:
    return {gate.name: gate.found for gate in evaluate_gates(evidence) if not gate.passed}


@pytest.fixture(scope="module")
def trained(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Store:
    """A store with a tiny sweep and its last training, in which a killed one had been left open."""
    root = copy_of(migrated_store, tmp_path_factory.mktemp("promotion"))
    run(root, registers=True, trials=2)
    store = open_store(root)
    opened(store, {schema.OWNER: gone().text(token="", seen=time.time())})
    train_final(store, TrainOptions(budget="2K", seeds=2, device="cpu", threads=1, store=root), QUIET)
    return store


def opened(
    store: Store, told: dict[str, str], kind: schema.RunKind = "final", nested: schema.RunKind = "final_seed"
) -> tuple[str, str]:
    """A final run and its seed that are open, or another run with a nested one."""
    experiment = store.experiment("sp500-threshold-1pct")
    parent = RunLog.start(store, experiment_id=experiment, kind=kind, name=kind, params={}, tags=told)
    child = RunLog.start(store, experiment_id=experiment, kind=nested, name=nested, params={}, tags={}, parent_id=parent.run_id)
    return parent.run_id, child.run_id


def gone() -> ProcessId:
    """A process that has ended."""
    with subprocess.Popen(["sleep", "9"]) as process:
        process.kill()
    return ProcessId(host=socket.gethostname(), pid=process.pid, started=time.time())


def complete_final(store: Store) -> RunRecord:
    (final,) = [
        one for one in query.runs_of_kind(store, list(query.experiments(store)), ("final",)) if one.outcome == "complete"
    ]
    return final


def test_from_the_sweep_to_use_and_back(trained: Store, capsys: pytest.CaptureFixture[str]) -> None:
    store, root, final = trained, trained.root, complete_final(trained)
    assert (alias(store, schema.CHALLENGER), alias(store, schema.CHAMPION)) == ("1", None)
    with pytest.raises(InputError, match=f"not been tested.*make evaluate RUN={final.run_id[:12]} STORE={root}"):
        promote(PromoteOptions(budget="2K", force=True, store=root))
    look_at_the_same_moment(store)
    assert alias(store, schema.CHALLENGER) == "2"

    with pytest.raises(InputError, match=r"version 2 is not promoted: .* FORCE=1") as refused:
        promote(PromoteOptions(budget="2K", store=root))
    assert alias(store, schema.CHAMPION) is None
    told = json.loads(tags(store, "2")[schema.GATES])
    assert [gate["name"] for gate in told["gates"]] == GATES
    failed = [gate["name"] for gate in told["gates"] if not gate["passed"]]
    assert "beats logistic" in failed
    assert f"({', '.join(failed)})" in str(refused.value)
    assert tags(store, "2")[schema.GATES_PASSED] == "false"
    page = store.client.get_model_version(NAME, "2").description
    assert page.startswith("final: ")
    assert "| beats logistic |" in page

    capsys.readouterr()
    promote(PromoteOptions(model=NAME, force=True, store=root))
    shown = capsys.readouterr().out
    assert f"champion   {NAME} version 2, the first of its model" in shown
    assert commands_to_type(shown, root) == [f"make predict MODEL={NAME}", f"make serve MODEL={NAME}"]
    assert (alias(store, schema.CHALLENGER), alias(store, schema.CHAMPION)) == (None, "2")
    assert tags(store, "2")[schema.FORCED] == ", ".join(failed)

    (version,) = chosen(store)
    model = served_model_info(store, version)
    task = rebuild_task(store, final).task.prepared
    rows = [*task.split.train, *task.split.validation]
    assert model.base_rate == pytest.approx(task.labels[rows].mean())
    predict(PredictOptions(store=root, stale_ok=True))
    shown = capsys.readouterr().out
    assert f"model      {NAME} version 2 (champion)" in shown
    assert f"rows (evaluation {told['evaluation'][:12]}); gates not passed: {', '.join(failed)}" in shown
    row = next(line for line in shown.splitlines() if line.strip().startswith("^GSPC"))
    assert row.split()[:3] == ["^GSPC", "1", "2018-12-31"]
    assert row.split()[-3:] == [f"{model.base_rate:.3f}", NAME, "v2"]

    run(root, registers=True, trials=2)
    assert (alias(store, schema.CHALLENGER), alias(store, schema.CHAMPION)) == (None, "2")
    with pytest.raises(InputError, match="no other version was champion before version 2"):
        rollback(RollbackOptions(store=root))


def look_at_the_same_moment(store: Store) -> None:
    """Two first looks, of which the second is told that it is none."""
    both, ended = threading.Barrier(2), []

    def together(*given: object) -> object:
        both.wait(30)
        return rebuild_task(*given)  # type: ignore[arg-type]

    def one() -> None:
        try:
            ended.append(open_test_set(store, EvaluateOptions(budget="2K", store=store.root), QUIET))
        except InputError as problem:
            ended.append(str(problem))

    with patch("pipelines.final.evaluation.rebuild_task", together), patch("pipelines.trial.figures.save"):
        threads = [threading.Thread(target=one) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    (evaluation,) = query.runs_of_kind(store, list(query.experiments(store)), ("evaluation",))
    assert evaluation.run_id in ended
    assert any("have been opened (1 before)" in words for words in ended)


def test_a_killed_training_is_closed_by_the_next(trained: Store) -> None:
    runs = query.runs_of_kind(trained, list(query.experiments(trained)), ("final", "final_seed"))
    assert sorted(one.outcome or "open" for one in runs) == ["complete"] * 3 + ["interrupted"] * 2
    assert {one.status for one in runs if one.outcome == "interrupted"} == {"KILLED"}


def test_a_training_or_look_that_is_alive_is_left_alone_and_a_dead_one_closed(store_root: Path) -> None:
    store = open_store(store_root)
    elsewhere = ProcessId(host="another", pid=1, started=0.0)
    alive = [
        *opened(store, {schema.OWNER: ProcessId.mine().text(token="", seen=0.0)}),
        *opened(store, {schema.OWNER: elsewhere.text(token="", seen=time.time())}),
    ]
    dead = opened(store, {schema.OWNER: elsewhere.text(token="", seen=time.time() - 2 * STALE_SECONDS)})
    dead += opened(store, {schema.OWNER: gone().text(token="", seen=time.time())}, "evaluation", "retrained")
    close_dead_runs(store)
    runs = query.runs_of_kind(store, list(query.experiments(store)), ("final", "final_seed", "evaluation", "retrained"))
    assert {one.run_id for one in runs if one.status == "RUNNING"} == set(alive)
    assert {one.run_id for one in runs if one.outcome == "interrupted"} == set(dead)


def test_a_champion_replaces_another_and_every_step_back_is_there(store_root: Path, capsys: pytest.CaptureFixture[str]) -> None:
    store = open_store(store_root)
    one, two = invented(store), invented(store)
    back = RollbackOptions(model=NAME, store=store_root)
    with pytest.raises(InputError, match="no champion"):
        rollback(back)
    for each in (one, two, one):
        ask_for(each)
    assert capsys.readouterr().out.count("not passed") == 0
    assert tags(store, two.version)[schema.FORCED] == "no"
    (evaluation,) = query.runs_with_tag(
        store, two.final.experiment_id, schema.FINAL_RUN, two.final.run_id, kinds=("evaluation",)
    )
    taken = json.loads(tags(store, two.version)[schema.PROMOTED])
    assert (taken["replaces"], taken["final"], taken["evaluation"]) == (one.version, two.final.run_id, evaluation.run_id)
    assert json.loads(tags(store, one.version)[schema.REPLACED])["by"] == two.version
    for version in (two.version, one.version):
        rollback(back)
        assert alias(store, schema.CHAMPION) == version
    assert json.loads(tags(store, two.version)[schema.ROLLED_BACK])["to"] == one.version
    assert json.loads(tags(store, one.version)[schema.RESTORED])["instead_of"] == two.version
    with pytest.raises(InputError, match=f"no other version was champion before version {one.version}"):
        rollback(back)
    # What is in use is not next in line.
    store.client.set_registered_model_alias(NAME, schema.CHALLENGER, two.version)
    ask_for(two)
    assert alias(store, schema.CHALLENGER) is None
    rollback(back)
    assert commands_to_type(capsys.readouterr().out, store_root) == [
        f"make predict MODEL={NAME}",
        f"make rollback MODEL={NAME}",
    ]
    (used,) = current_champions(store)
    assert (used.version, used.run_id, used.gates) == (one.version, one.final.run_id, "passed")
    ask_for(one)
    assert "champion already; nothing was moved" in capsys.readouterr().out


def test_a_champion_that_was_set_by_hand_can_be_gone_back_to(store_root: Path) -> None:
    store = open_store(store_root)
    one, two, three = (invented(store) for _ in range(3))
    store.client.set_registered_model_alias(NAME, schema.CHAMPION, one.version)
    ask_for(two)
    store.client.set_registered_model_alias(NAME, schema.CHAMPION, three.version)
    for version in (two.version, one.version):
        rollback(RollbackOptions(store=store_root))
        assert alias(store, schema.CHAMPION) == version


@pytest.mark.parametrize("call", ["set_registered_model_alias", "set_registered_model_tag"])
def test_a_rollback_that_is_killed_loses_no_champion(store_root: Path, call: str) -> None:
    store = open_store(store_root)
    one, two = invented(store), invented(store)
    for each in (one, two, one):
        ask_for(each)
    with patch.object(store.client, call, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        roll_back(store, NAME)
    if alias(store, schema.CHAMPION) == one.version:
        roll_back(store, NAME)
    assert alias(store, schema.CHAMPION) == two.version
    assert roll_back(store, NAME) == (two.version, one.version)


def test_two_promotions_of_a_version_at_the_same_moment_are_one_step_back(store_root: Path) -> None:
    store = open_store(store_root)
    one, two = invented(store), invented(store)
    ask_for(one)
    version = store.client.get_model_version(NAME, two.version)
    replaced = [succession.make_champion(store, version, final="f", evaluation="e", forced=()) for _ in range(2)]
    assert replaced == [one.version] * 2
    assert roll_back(store, NAME) == (two.version, one.version)


def test_a_champion_is_in_use_since_it_was_last_taken_into_use(store_root: Path) -> None:
    store = open_store(store_root)
    one, two = invented(store), invented(store)
    times = iter(f"2026-01-0{day}T00:00:00+00:00" for day in range(1, 10))
    with patch.object(succession, "_now", lambda: next(times)):
        ask_for(one)
        ask_for(two)
        roll_back(store, NAME)
        assert current_champions(store)[0].since.startswith("2026-01-03")
        ask_for(two)
        ask_for(one)
    (used,) = current_champions(store)
    assert (used.version, used.since[:10]) == (one.version, "2026-01-05")


def test_a_store_that_fails_is_not_one_without_a_champion(store_root: Path) -> None:
    store = open_store(store_root)
    ask_for(invented(store))
    assert holder_of(store, NAME, schema.CHALLENGER) is None
    assert holder_of(store, "another", schema.CHAMPION) is None
    problem = MlflowException("down", error_code=INTERNAL_ERROR)
    with patch.object(store.client, "get_model_version_by_alias", side_effect=problem), pytest.raises(MlflowException):
        holder_of(store, NAME, schema.CHAMPION)


@pytest.fixture(scope="module")
def evidence(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> GateEvidence:
    one = invented(open_store(copy_of(migrated_store, tmp_path_factory.mktemp("gates"))))
    return evidence_of(one.store, one.final)


def with_tags(one: RunRecord, changes: dict[str, str]) -> RunRecord:
    return replace(one, tags={**one.tags, **changes})


@pytest.mark.parametrize(
    ("run", "changes", "gate", "found"),
    [
        ("final", {schema.GIT_DIRTY: "true"}, "clean commit", "uncommitted changes"),
        ("final", {schema.GIT_COMMIT: "d" * 40}, "clean commit", "cccccccccccc, dddddddddddd"),
        ("seed", {schema.GIT_DIRTY: "true"}, "clean commit", "uncommitted changes"),
        ("all", {schema.GIT_COMMIT: "unknown"}, "clean commit", "unknown"),
        ("seed", {schema.ALARM: "collapsed"}, "no collapse", "final_seed: collapsed"),
        ("evaluation", {schema.ALARM: "no-skill"}, "no collapse", "evaluation: no-skill"),
        ("evaluation", {schema.SECOND_LOOK: "1 before"}, "one look", "test days opened"),
        (
            "evaluation",
            {schema.LOOKS_RELATED: "1", schema.LOOKS_BEFORE: "1"},
            "one look",
            "once before for the same configuration",
        ),
        ("evaluation", {schema.GIT_DIRTY: "true"}, "clean commit", "uncommitted changes"),
    ],
)
def test_a_tag_that_must_not_be_there_closes_its_gate(
    evidence: GateEvidence, run: str, changes: dict[str, str], gate: str, found: str
) -> None:
    changed = replace(
        evidence,
        final=with_tags(evidence.final, changes if run in ("final", "all") else {}),
        seeds=[with_tags(one, changes if run in ("seed", "all") else {}) for one in evidence.seeds],
        evaluation=with_tags(evidence.evaluation, changes if run == "evaluation" else {}),
    )
    (told,) = not_passed(changed).items()
    assert (told[0], found in told[1]) == (gate, True)


@pytest.mark.parametrize(
    ("changes", "gate", "found"),
    [
        ({"vs_logistic/high": 0.001}, "beats logistic", "inside the noise"),
        ({"vs_logistic/dm_p": 0.06}, "beats logistic", "better, but Diebold-Mariano p 0.060"),
        ({"vs_prior/low": 0.001, "vs_prior/high": 0.002}, "beats training prior", "worse"),
        ({"vs_rolling_prior/high": None}, "beats rolling prior", "was not evaluated against it"),
        # A reference that somebody has added is one more to beat.
        ({"vs_trees/difference": 0.01, "vs_trees/low": -0.01, "vs_trees/high": 0.03}, "beats trees", "inside the noise"),
        ({"test_calibration_slope_low": 1.01}, "calibration slope", "[+1.010, +1.300]"),
        ({"test_calibration_slope_low": -0.1}, "calibration slope", "[-0.100, +1.300]"),
        ({"test_calibration_bias_high": -0.001}, "calibration bias", "[-0.010, -0.001]"),
        ({"test_calibration_slope_high": None}, "calibration slope", "there is none"),
        ({"test_spread": 0.001}, "no collapse", "test predictions: collapsed"),
        ({schema.LEAST_SEED_SPREAD: 0.001}, "no collapse", "a seed's test predictions: collapsed"),
    ],
)
def test_a_number_that_falls_short_closes_its_gate(
    evidence: GateEvidence, changes: dict[str, float | None], gate: str, found: str
) -> None:
    metrics = {name: value for name, value in {**evidence.evaluation.metrics, **changes}.items() if value is not None}
    (told,) = not_passed(replace(evidence, evaluation=replace(evidence.evaluation, metrics=metrics))).items()
    assert (told[0], found in told[1]) == (gate, True)


def test_an_evaluation_from_before_calibration_was_tested_says_so(evidence: GateEvidence) -> None:
    metrics = {name: value for name, value in evidence.evaluation.metrics.items() if "calibration" not in name}
    found = not_passed(replace(evidence, evaluation=replace(evidence.evaluation, metrics=metrics)))
    assert list(found) == ["calibration slope", "calibration bias"]
    assert all(words.startswith("evaluated before calibration was tested") for words in found.values())


def test_looks_for_other_models_are_told_and_close_nothing(evidence: GateEvidence) -> None:
    after_others = replace(evidence, evaluation=with_tags(evidence.evaluation, {schema.LOOKS_BEFORE: "2"}))
    assert not_passed(evidence) == not_passed(after_others) == {}
    assert warnings(evidence) == []
    (told,) = warnings(after_others)
    assert "opened 2 times before, for other models" in told
    related = with_tags(after_others.evaluation, {schema.LOOKS_RELATED: "1"})
    (told,) = warnings(replace(evidence, evaluation=related))
    assert "opened once before, for other models" in told


@pytest.mark.parametrize("call", ["set_model_version_tag", "set_registered_model_alias"])
def test_a_kill_before_a_version_says_that_it_was_tested_is_made_good_by_promotion(store_root: Path, call: str) -> None:
    store = open_store(store_root)
    one = invented(store)
    with patch.object(store.client, call, side_effect=KeyboardInterrupt), pytest.raises(KeyboardInterrupt):
        note_tested(store, one.final.run_id, "its evaluation")
    promote(PromoteOptions(model=NAME, store=store_root))
    assert alias(store, schema.CHAMPION) == one.version


def test_an_earlier_test_that_is_told_late_takes_no_alias_from_a_later_one(store_root: Path) -> None:
    store = open_store(store_root)
    first, second = invented(store), invented(store)
    note_tested(store, second.final.run_id, "its evaluation")
    close_dead_runs(store)
    assert alias(store, schema.CHALLENGER) == second.version
    assert schema.EVALUATION_RUN in tags(store, first.version)
    third = invented(store)
    again = invented(store, looks=0)
    told = {**CLEAN, schema.FINAL_RUN: again.final.run_id, schema.SECOND_LOOK: "1 before"}
    closed(store, again.final.experiment_id, "evaluation", told, GOOD)
    close_dead_runs(store)
    assert alias(store, schema.CHALLENGER) == third.version
    assert schema.EVALUATION_RUN not in tags(store, again.version)


def test_looks_of_other_questions_are_on_the_versions_page_and_close_nothing(
    store_root: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = invented(open_store(store_root))
    (run,) = query.runs_of_kind(one.store, [one.final.experiment_id], ("evaluation",))
    for name, value in {schema.LOOKS_OTHER: "2", schema.QUESTIONS_BEFORE: "sp500-threshold-1pct h3 (2)"}.items():
        one.store.client.set_tag(run.run_id, name, value)
    ask_for(one)
    assert alias(one.store, schema.CHAMPION) == one.version
    told = "evaluations of other questions on these test days: 2 times before: sp500-threshold-1pct h3 (2)"
    assert told in capsys.readouterr().out
    assert told in one.store.client.get_model_version(NAME, one.version).description
    assert "h3 (2)" in json.loads(tags(one.store, one.version)[schema.GATES])["looks_of_other_questions"]


@pytest.mark.parametrize(("number", "words"), [("0", "none before"), (None, "not counted when it was evaluated")])
def test_that_no_other_question_looked_is_told_apart_from_not_counted(
    evidence: GateEvidence, number: str | None, words: str
) -> None:
    counted = with_tags(evidence.evaluation, {schema.LOOKS_OTHER: number} if number else {})
    assert looks_of_others(replace(evidence, evaluation=counted)) == words


def test_a_second_look_at_the_same_model_closes_a_gate(store_root: Path) -> None:
    one = invented(open_store(store_root), looks=2)
    twice = {"one look": "test days opened 2 times"}
    assert not_passed(evidence_of(one.store, one.final)) == twice
    # Nor does the deletion of one of them in the pages open it again.
    one.store.client.delete_run(evidence_of(one.store, one.final).looks[-1].run_id)
    assert not_passed(evidence_of(one.store, one.final)) == twice


def test_a_sweep_takes_no_alias_from_what_is_tested_or_in_use(store_root: Path) -> None:
    store = open_store(store_root)
    experiment = store.experiment("sp500-threshold-1pct")

    def best_of_a_sweep(val_loss: float, task: str = STUDY) -> str:
        run_id = closed(store, experiment, "trial", {}, {}, model=True)
        return register(store, name=NAME, run_id=run_id, val_loss=val_loss, study=task, description="d").kept

    assert best_of_a_sweep(0.41) == ""
    one = invented(store)
    note_tested(store, one.final.run_id, "its evaluation")
    assert alias(store, schema.CHALLENGER) == one.version
    assert "is tested and stays challenger" in best_of_a_sweep(0.1)
    assert "is tested and stays challenger" in best_of_a_sweep(0.1, task="another")
    ask_for(one)
    # The trial that the champion was trained from, and worse ones, are no challenge to it.
    assert "the champion" in best_of_a_sweep(0.4)
    assert best_of_a_sweep(0.39) == ""
    assert alias(store, schema.CHAMPION) == one.version


def test_what_is_no_tested_final_run_is_refused_with_the_way_there(store_root: Path) -> None:
    store = open_store(store_root)
    one = invented(store, looks=0)
    trial = closed(store, one.final.experiment_id, "trial", {}, {}, model=True)
    register(store, name=NAME, run_id=trial, val_loss=0.5, study=STUDY, description="d")
    (seed,) = query.children(store, one.final.experiment_id, one.final.run_id)
    register_apart(store, name="single", run_id=seed.run_id, val_loss=0.4, study=STUDY, description="d")
    for options, words in (
        ({"model": "single", "version": "1"}, f"single seeds.*make promote RUN={one.final.run_id[:12]}"),
        ({"run": one.final.run_id}, f"make evaluate RUN={one.final.run_id[:12]}"),
        ({"model": NAME, "version": "2"}, f"version 2 is from a trial.*make train RUN={trial[:12]}"),
        ({"model": NAME, "version": "9"}, "VERSION=9: .* give one of 1, 2"),
        ({"model": "none"}, f"there are: single, {NAME}"),
        ({"model": NAME, "run": "1"}, "give one of them"),
        ({"version": "1", "budget": "2K"}, "give its MODEL too"),
    ):
        with pytest.raises(InputError, match=words):
            promote(PromoteOptions(**options, force=True, store=store_root))  # type: ignore[arg-type]
    assert alias(store, schema.CHAMPION) is None


def test_a_version_without_code_of_its_own_is_not_promoted(store_root: Path) -> None:
    store = open_store(store_root)
    candidate = invented(store)
    (package,) = (store.local_artifact(candidate.final.run_id, schema.MODEL_FOLDER) / "code").iterdir()
    package.rename(package.with_name("research"))
    trial = candidate.final.tags[schema.TRAINED_FROM][:12]
    with pytest.raises(InputError, match=f"version {candidate.version} carries no code of its own.*`make train RUN={trial}`"):
        promote(PromoteOptions(run=candidate.final.run_id, force=True, store=store_root))
    assert alias(store, schema.CHAMPION) is None
