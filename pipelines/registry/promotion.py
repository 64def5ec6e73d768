"""The promotion of a tested version: its gates, their record on the version and the move of the alias."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.console import Console
from rich.table import Table

from pipelines.final.recovery import tag_tested_versions
from pipelines.registry.gates import Gate, GateEvidence, evaluate_gates, evidence_of, looks_of_others, warnings
from pipelines.registry.options import PromoteOptions
from research.cli.console import plain_table, print_line
from research.cli.next_steps import print_next, with_store_argument
from research.errors import InputError
from research.tracking import champion_history, schema
from research.tracking.query import RunRecord
from research.tracking.registry import holder_of, named_version, require_own_code, version_of
from research.tracking.run_lookup import final_run
from research.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

VERDICTS = {True: "passed", False: "not passed"}


def promote_candidate(store: Store, options: PromoteOptions, screen: Console) -> None:
    """Judge a final run's version, record the gates, and make it champion if all are passed or if forced.

    Raises `InputError` with the names of the gates that are not passed; no alias has moved then. A version without code of
    its own is refused.
    """
    tag_tested_versions(store)
    final, version = candidate(store, options)
    title = f"{version.name} version {version.version}"
    champion = holder_of(store, version.name, schema.CHAMPION)
    if champion and str(champion.version) == str(version.version):
        print_line(screen, f"{title} is champion already; nothing was moved", markup=False)
        return
    require_own_code(store, name=version.name, version=str(version.version), run_id=final.run_id)
    evidence = evidence_of(store, final)
    gates = evaluate_gates(evidence)
    _print_gates(title, evidence, gates, screen)
    record(store, version, evidence, gates)
    failed = [gate.name for gate in gates if not gate.passed]
    if failed and not options.force:
        raise InputError(
            f"{title} is not promoted: {len(failed)} of {len(gates)} gates are not passed ({', '.join(failed)}); "
            "FORCE=1 promotes it nevertheless and records that."
        )
    evaluation = evidence.evaluation.run_id
    previous = champion_history.make_champion(store, version, final=final.run_id, evaluation=evaluation, forced=failed)
    if failed:
        print_line(screen, f"forced     past {', '.join(failed)}; recorded on the version", markup=False)
    replaced = f"instead of version {previous}" if previous else "the first of its model"
    print_line(screen, f"champion   {title}, {replaced}", markup=False)
    rollback = (f"make rollback MODEL={version.name}",) if previous else ()
    print_next(screen, options.store, f"make predict MODEL={version.name}", f"make serve MODEL={version.name}", *rollback)


def candidate(store: Store, options: PromoteOptions) -> tuple[RunRecord, ModelVersion]:
    """Return the final run that the options select and the version registered from it."""
    if options.model:
        return _candidate_of_model(store, options)
    final = final_run(store, budget=options.budget, horizon=options.horizon, run=options.run)
    registered = version_of(store, final.run_id)
    if registered is None:
        command = with_store_argument(store.root, f"make train RUN={final.tags[schema.TRAINED_FROM][:12]}")
        raise InputError(f"RUN={final.run_id[:12]}: no version was registered from it; register one with {command}")
    return final, registered


def _candidate_of_model(store: Store, options: PromoteOptions) -> tuple[RunRecord, ModelVersion]:
    version = named_version(store, options.model, options.version)
    run_id = str(version.run_id)
    tags = store.client.get_run(run_id).data.tags
    kind = tags.get(schema.KIND)
    if kind == "final_seed":
        command = with_store_argument(store.root, f"make promote RUN={tags[schema.PARENT][:12]}")
        raise InputError(f"MODEL={options.model}: it holds single seeds, which are not tested; {command}")
    if kind != "final":
        command = with_store_argument(store.root, f"make train RUN={run_id[:12]}")
        raise InputError(
            f"MODEL={options.model}: version {version.version} is from a {kind}, and only a version from make train can be "
            f"promoted; {command}"
        )
    return final_run(store, budget="", horizon=1, run=run_id), version


def record(store: Store, version: ModelVersion, evidence: GateEvidence, gates: Sequence[Gate]) -> None:
    """Write the gates to the version: as tags for programs, as its description for people."""
    passed, evaluation = all(gate.passed for gate in gates), evidence.evaluation.run_id
    report = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "evaluation": evaluation,
        "passed": passed,
        "gates": [{"name": g.name, "passed": g.passed, "found": g.found, "needed": g.needed} for g in gates],
        "looks_of_other_questions": looks_of_others(evidence),
    }
    tags = {
        schema.GATES: json.dumps(report),
        schema.GATES_PASSED: str(passed).lower(),
        schema.EVALUATION_RUN: evaluation,
    }
    for name, value in tags.items():
        store.client.set_model_version_tag(version.name, version.version, name, value)
    # The description from before the first judgement is kept.
    original = (version.description or "").split("\n\n")[0]
    store.client.update_model_version(version.name, version.version, f"{original}\n\n{markdown(evidence, gates)}")


def markdown(evidence: GateEvidence, gates: Sequence[Gate]) -> str:
    """Return the gates as Markdown for the version's page."""
    metrics, passed = evidence.evaluation.metrics, sum(gate.passed for gate in gates)
    count = "every gate passed" if passed == len(gates) else f"{passed} of {len(gates)} gates passed"
    lines = [
        f"**{count}**; skill {metrics['test_skill']:+.3f} on {int(metrics['test_n']):,} test rows, "
        f"evaluation {evidence.evaluation.run_id[:12]}, final run {evidence.final.run_id[:12]}.",
        "",
        "| gate | found | verdict | needed |",
        "|---|---|---|---|",
        *(f"| {gate.name} | {gate.found} | {VERDICTS[gate.passed]} | {gate.needed} |" for gate in gates),
        "",
        f"Not a gate: evaluations of other questions on these test days: {looks_of_others(evidence)}.",
        *warnings(evidence),
    ]
    return "\n".join(lines)


def table_of(gates: Sequence[Gate]) -> Table:
    """Return a table of the gates; one that is not passed shows what it needs."""
    columns = ("gate", "found", "verdict")
    table = plain_table("", columns, left=columns)
    for column in table.columns:
        column.no_wrap = False
    for gate in gates:
        found = gate.found if gate.passed else f"{gate.found}; {gate.needed}"
        table.add_row(gate.name, found, VERDICTS[gate.passed], style="" if gate.passed else "red")
    return table


def _print_gates(title: str, evidence: GateEvidence, gates: Sequence[Gate], screen: Console) -> None:
    metrics, final, evaluation = evidence.evaluation.metrics, evidence.final, evidence.evaluation
    print_line(screen, f"candidate  {title}, of {final.name} (run {final.run_id[:12]})", markup=False)
    print_line(
        screen,
        f"tested     evaluation {evaluation.run_id[:12]}: loss {metrics['test_loss']:.4f}, skill {metrics['test_skill']:+.3f} "
        f"on {int(metrics['test_n']):,} test rows from {evaluation.params['test_start']}",
        markup=False,
    )
    screen.print(table_of(gates))
    others = f"evaluations of other questions on these test days: {looks_of_others(evidence)}"
    for line in (f"accesses   {others}", *(f"warning    {warning}" for warning in warnings(evidence))):
        print_line(screen, line, markup=False)
