"""Taking a tested version into use: its gates, their record on the version, and the move of the alias."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipelines.final.recovery import tag_tested_versions
from pipelines.registry.gates import Gate, GateEvidence, evaluate_gates, evidence_of, looks_of_others, warnings
from pipelines.registry.options import PromoteOptions
from research.cli.next_steps import print_next, with_store_argument
from research.errors import InputError
from research.tracking import champion_history as succession
from research.tracking import schema
from research.tracking.query import RunRecord
from research.tracking.registry import holder_of, named_version, version_of
from research.tracking.run_lookup import final_run
from research.tracking.store import Store

if TYPE_CHECKING:
    from mlflow.entities.model_registry import ModelVersion

OTHERS = "of other questions at these test days"


def promote(store: Store, options: PromoteOptions, console: Console) -> None:
    """Judge a final run's version, write down what was found, and make it champion if every gate is passed, or if forced.

    `InputError` names the gates that were not; then nothing has moved.
    """
    tag_tested_versions(store)
    final, version = candidate(store, options)
    title = f"{version.name} version {version.version}"
    champion = holder_of(store, version.name, schema.CHAMPION)
    if champion and str(champion.version) == str(version.version):
        console.print(f"{title} is champion already; nothing was moved", highlight=False)
        return
    evidence = evidence_of(store, final)
    gates = evaluate_gates(evidence)
    failed = [gate.name for gate in gates if not gate.passed]
    _say(console, _opening(title, evidence))
    console.print(table_of(gates))
    _say(console, [f"looks      {OTHERS}: {looks_of_others(evidence)}", *(f"warning    {line}" for line in warnings(evidence))])
    record(store, version, evidence, gates)
    if failed and not options.force:
        raise InputError(
            f"{title} is not promoted: {len(failed)} of {len(gates)} gates are not passed ({', '.join(failed)}); "
            "FORCE=1 takes it into use all the same and records that."
        )
    previous = succession.promote(store, version, final=final.run_id, evaluation=evidence.evaluation.run_id, forced=failed)
    _say(console, _ending(title, previous, failed))
    back = (f"make rollback MODEL={version.name}",) if previous else ()
    print_next(console, options.store, f"make predict MODEL={version.name}", f"make serve MODEL={version.name}", *back)


def candidate(store: Store, options: PromoteOptions) -> tuple[RunRecord, ModelVersion]:
    """The final run that is meant and the version that was registered from it."""
    if options.model:
        version = named_version(store, options.model, options.version)
        told = store.client.get_run(str(version.run_id)).data.tags
        kind = told.get(schema.KIND)
        if kind == "final_seed":
            whole = with_store_argument(store.root, f"make promote RUN={told[schema.PARENT][:12]}")
            raise InputError(f"MODEL={options.model}: it holds single seeds, none of them tested; {whole}")
        if kind != "final":
            first = with_store_argument(store.root, f"make train RUN={str(version.run_id)[:12]}")
            raise InputError(
                f"MODEL={options.model}: version {version.version} is a {kind}'s, and only what make train left can be "
                f"promoted; {first}"
            )
        return final_run(store, budget="", horizon=1, run=str(version.run_id)), version
    final = final_run(store, budget=options.budget, horizon=options.horizon, run=options.run)
    registered = version_of(store, final.run_id)
    if registered is None:
        trial = final.tags[schema.TRAINED_FROM][:12]
        again = with_store_argument(store.root, f"make train RUN={trial}")
        raise InputError(f"RUN={final.run_id[:12]}: no version was registered from it; {again} does that.")
    return final, registered


def record(store: Store, version: ModelVersion, evidence: GateEvidence, gates: Sequence[Gate]) -> None:
    """Write to the version what was found: for programs as tags, for people as its description."""
    passed = all(gate.passed for gate in gates)
    told = {
        "at": datetime.now(UTC).isoformat(timespec="seconds"),
        "evaluation": evidence.evaluation.run_id,
        "passed": passed,
        "gates": [{"name": g.name, "passed": g.passed, "found": g.found, "needed": g.needed} for g in gates],
        "looks_of_other_questions": looks_of_others(evidence),
    }
    tags = {
        schema.GATES: json.dumps(told),
        schema.GATES_PASSED: str(passed).lower(),
        schema.EVALUATION_RUN: evidence.evaluation.run_id,
    }
    for name, value in tags.items():
        store.client.set_model_version_tag(version.name, version.version, name, value)
    # What stood there before the first judgement stays.
    first = (version.description or "").split("\n\n")[0]
    store.client.update_model_version(version.name, version.version, f"{first}\n\n{markdown(evidence, gates)}")


def markdown(evidence: GateEvidence, gates: Sequence[Gate]) -> str:
    """The gates for the version's page."""
    metrics = evidence.evaluation.metrics
    lines = [
        f"**{_count(gates)}**; skill {metrics['test_skill']:+.3f} on {int(metrics['test_n']):,} test rows, "
        f"evaluation {evidence.evaluation.run_id[:12]}, final run {evidence.final.run_id[:12]}.",
        "",
        "| gate | found | verdict | needed |",
        "|---|---|---|---|",
        *(f"| {gate.name} | {gate.found} | {_verdict(gate)} | {gate.needed} |" for gate in gates),
    ]
    return "\n".join(
        [*lines, "", f"No gate, but to be known: looks {OTHERS}: {looks_of_others(evidence)}.", *warnings(evidence)]
    )


def table_of(gates: Sequence[Gate]) -> Table:
    """Gate, what was found, verdict."""
    table = Table(box=SIMPLE_HEAD, pad_edge=False)
    for heading in ("gate", "found", "verdict"):
        table.add_column(heading)
    for gate in gates:
        style = "" if gate.passed else "red"
        table.add_row(gate.name, gate.found if gate.passed else f"{gate.found}; {gate.needed}", _verdict(gate), style=style)
    return table


def _opening(title: str, evidence: GateEvidence) -> list[str]:
    metrics, final = evidence.evaluation.metrics, evidence.final
    return [
        f"candidate  {title}, of {final.name} (run {final.run_id[:12]})",
        f"tested     evaluation {evidence.evaluation.run_id[:12]}: loss {metrics['test_loss']:.4f}, skill "
        f"{metrics['test_skill']:+.3f} on {int(metrics['test_n']):,} test rows from {evidence.evaluation.params['test_start']}",
    ]


def _ending(title: str, previous: str, failed: Sequence[str]) -> list[str]:
    instead = f"instead of version {previous}" if previous else "the first of its model"
    lines = [f"forced     past {', '.join(failed)}; the version says so"] if failed else []
    return [*lines, f"champion   {title}, {instead}"]


def _count(gates: Sequence[Gate]) -> str:
    passed = sum(gate.passed for gate in gates)
    return "every gate passed" if passed == len(gates) else f"{passed} of {len(gates)} gates passed"


def _verdict(gate: Gate) -> str:
    return "passed" if gate.passed else "not passed"


def _say(console: Console, lines: Sequence[str]) -> None:
    for line in lines:
        console.print(line, soft_wrap=True, highlight=False, markup=False)
