"""Gates of a promotion: requirements on a final run, judged only by what MLflow has logged."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from research.cli.next_steps import with_store_argument
from research.errors import InputError
from research.evaluation.metrics import COLLAPSED_SPREAD, alarm_of
from research.evaluation.significance import TEST_LEVEL
from research.tracking import query, schema
from research.tracking.query import RunRecord
from research.tracking.store import Store

REFERENCES = {
    "prior": "training prior",
    "rolling_prior": "rolling prior",
    **{name: title for name, title in schema.BASELINE_TITLES.items() if name != "prior"},
}
"""Metric name -> title of each reference that an evaluation must include; it may include more."""
CALIBRATION = {"slope": 1.0, "bias": 0.0}
"""Measure of calibration -> its value for calibrated probabilities."""
UNTESTED = "evaluated before calibration was tested, and a second evaluation is not an independent test"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One requirement with its verdict."""

    name: str
    passed: bool
    found: str
    """Measured values, in words."""
    needed: str
    """Condition for passing, in words."""


@dataclass(frozen=True, kw_only=True)
class GateEvidence:
    """The runs that the gates judge."""

    final: RunRecord
    seeds: list[RunRecord]
    trial_alarm: str
    """Alarm of the trial whose configuration was trained: `none`, `collapsed` or `no-skill`."""
    looks: list[RunRecord]
    """Evaluations of the final run on its snapshot, of any outcome: the results of one that crashed may have been seen."""
    evaluation: RunRecord
    """First complete one of them; later ones are not independent tests."""


def evidence_of(store: Store, final: RunRecord) -> GateEvidence:
    """Return the runs to judge; raise `InputError` if the final run was never tested, which `force` cannot override."""
    # `query.evaluations` includes deleted runs: their results were seen.
    snapshot = final.tags[schema.SNAPSHOT_DIGEST]
    evaluations = [run for run in query.evaluations(store) if run.tags.get(schema.FINAL_RUN) == final.run_id]
    looks = [run for run in evaluations if run.tags[schema.SNAPSHOT_DIGEST] == snapshot]
    short = final.run_id[:12]
    command = with_store_argument(store.root, f"make evaluate RUN={short}")
    if not looks:
        raise InputError(f"RUN={short}: it has not been tested, and FORCE=1 cannot replace the test; {command}")
    evaluation = next((run for run in looks if run.outcome == "complete"), None)
    if evaluation is None:
        outcome = looks[-1].outcome or "still running, or killed"
        raise InputError(f"RUN={short}: its evaluation on the test days did not complete ({outcome}); {command} AGAIN=1")
    return GateEvidence(
        final=final,
        seeds=[run for run in query.children(store, final.experiment_id, final.run_id) if run.kind == "final_seed"],
        trial_alarm=store.client.get_run(final.tags[schema.TRAINED_FROM]).data.tags.get(schema.ALARM, "none"),
        looks=looks,
        evaluation=evaluation,
    )


def evaluate_gates(evidence: GateEvidence) -> list[Gate]:
    """Return every gate, passed or not."""
    metrics = evidence.evaluation.metrics
    evaluated = {name.split("/")[0].removeprefix("vs_") for name in metrics if name.startswith("vs_")}
    # A reference that is not in the list must be beaten too.
    references = REFERENCES | {name: name for name in sorted(evaluated - set(REFERENCES))}
    return [
        *(_beats(metrics, name, title) for name, title in references.items()),
        *(_calibrated(metrics, name, perfect) for name, perfect in CALIBRATION.items()),
        _clean_commit(evidence),
        _one_look(evidence),
        _not_collapsed(evidence),
    ]


def warnings(evidence: GateEvidence) -> list[str]:
    """Return what no gate requires but a promotion should consider.

    Evaluations of other models are not a gate: with one, the second model of a question could never replace the first.
    """
    others = int(evidence.evaluation.tags[schema.LOOKS_BEFORE]) - _related(evidence)
    if not others:
        return []
    return [
        f"these test days had been opened {_times(others)} before, for other models; "
        "the best of several evaluations looks better by chance"
    ]


def looks_of_others(evidence: GateEvidence) -> str:
    """Return how often other questions had opened these test days; the reader judges whether it weakens the result."""
    tags = evidence.evaluation.tags
    if schema.LOOKS_OTHER not in tags:
        return "not counted when it was evaluated"
    count = int(tags[schema.LOOKS_OTHER])
    return f"{_times(count)} before: {tags[schema.QUESTIONS_BEFORE]}" if count else "none before"


def _related(evidence: GateEvidence) -> int:
    """Return the number of earlier evaluations of the same configuration with other seeds or another calibration."""
    return int(evidence.evaluation.tags.get(schema.LOOKS_RELATED, "0"))


def _times(count: int) -> str:
    return "once" if count == 1 else f"{count} times"


def _beats(metrics: Mapping[str, float], name: str, title: str) -> Gate:
    needed = "95% interval of model - reference below 0 on the test days, and Diebold-Mariano p < 0.05"
    gate = f"beats {title}"
    if f"vs_{name}/high" not in metrics:
        return Gate(name=gate, passed=False, found="was not evaluated against it", needed=needed)
    difference, low, high = (metrics[f"vs_{name}/{part}"] for part in ("difference", "low", "high"))
    # An evaluation from before the Diebold-Mariano test is judged by its interval alone.
    p_value = metrics.get(f"vs_{name}/dm_p", 0.0)
    significant = p_value < TEST_LEVEL
    if low <= 0 <= high:
        verdict = "inside the noise"
    else:
        verdict = "better" if high < 0 else "worse"
        verdict += f", but Diebold-Mariano p {p_value:.3f}" if not significant else ""
    found = f"{difference:+.4f} [{low:+.4f}, {high:+.4f}] nats: {verdict}"
    return Gate(name=gate, passed=high < 0 and significant, found=found, needed=needed)


def _calibrated(metrics: Mapping[str, float], name: str, perfect: float) -> Gate:
    metric, gate = f"test_calibration_{name}", f"calibration {name}"
    needed = f"95% interval contains {perfect:g}" + (" and not 0" if perfect else "")
    if f"{metric}_high" not in metrics:
        tested = any(f"test_calibration_{measure}_high" in metrics for measure in CALIBRATION)
        found = "there is none for these probabilities" if tested else UNTESTED
        return Gate(name=gate, passed=False, found=found, needed=needed)
    value, low, high = metrics[metric], metrics[f"{metric}_low"], metrics[f"{metric}_high"]
    # A slope's interval that also contains 0 is too wide to show calibration.
    passed = low <= perfect <= high and (not perfect or low > 0)
    return Gate(name=gate, passed=passed, found=f"{value:+.3f} [{low:+.3f}, {high:+.3f}]", needed=needed)


def _clean_commit(evidence: GateEvidence) -> Gate:
    runs = [evidence.final, *evidence.seeds]
    commits = {run.tags.get(schema.GIT_COMMIT, "unknown") for run in runs}
    dirty = any(run.tags.get(schema.GIT_DIRTY) != "false" for run in (*runs, evidence.evaluation))
    found = ", ".join(sorted(commit[:12] for commit in commits))
    return Gate(
        name="clean commit",
        passed=not dirty and len(commits) == 1 and "unknown" not in commits,
        found=f"{found}{' with uncommitted changes' if dirty else ''}",
        needed="final run and seeds trained from one commit, with nothing uncommitted there or in the evaluation",
    )


def _one_look(evidence: GateEvidence) -> Gate:
    """Judge that the test days were opened once: later seeds or calibrations may have been chosen by the results."""
    looks, related = len(evidence.looks), _related(evidence)
    before = f", and {_times(related)} before for the same configuration" if related else ""
    return Gate(
        name="one look",
        passed=looks == 1 and not related and schema.SECOND_LOOK not in evidence.evaluation.tags,
        found=f"test days opened {_times(looks)}{before}",
        needed="test days opened once for this configuration, whatever its seeds and calibration",
    )


def _not_collapsed(evidence: GateEvidence) -> Gate:
    metrics = evidence.evaluation.metrics
    runs = (evidence.final, *evidence.seeds, evidence.evaluation)
    alarms = {"trial": evidence.trial_alarm, **{run.name: run.tags.get(schema.ALARM, "none") for run in runs}}
    alarms["test predictions"] = alarm_of(metrics["test_spread"], metrics["test_skill"])
    if metrics.get(schema.LEAST_SEED_SPREAD, COLLAPSED_SPREAD) < COLLAPSED_SPREAD:
        alarms["a seed's test predictions"] = "collapsed"
    raised = [f"{source}: {alarm}" for source, alarm in alarms.items() if alarm != "none"]
    return Gate(
        name="no collapse",
        passed=not raised,
        found="; ".join(raised) or f"test probabilities spread by {metrics['test_spread']:.3f}",
        needed="no alarm on trial, final run, seeds and test predictions",
    )
