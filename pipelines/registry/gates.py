"""What a final run must have shown before it is taken into use, judged by what MLflow holds and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
"""Metric name -> title of those that an evaluation must have been held against; it may know more."""
CALIBRATION = {"slope": 1.0, "bias": 0.0}
"""Measure of calibration -> its value where probabilities are true."""
UNTESTED = "evaluated before calibration was tested, and a second look is no test"


@dataclass(frozen=True, kw_only=True)
class Gate:
    """One demand, and how it was met."""

    name: str
    passed: bool
    found: str
    needed: str
    """What it takes to pass."""


@dataclass(frozen=True, kw_only=True)
class GateEvidence:
    """The runs that are judged."""

    final: RunRecord
    seeds: list[RunRecord]
    trial_alarm: str
    """Of the trial whose configuration was trained: `none`, `collapsed` or `no-skill`."""
    looks: list[RunRecord]
    """Evaluations of the final run on its snapshot, of any outcome: one that crashed may have been seen."""
    evaluation: RunRecord
    """The first complete one of them; what later ones say is no test."""


def evidence_of(store: Store, final: RunRecord) -> GateEvidence:
    """Read all that is judged; `InputError` where the final run was never tested, which no force makes up for."""
    # Deleted ones too: what was seen was seen.
    found = [one for one in query.evaluations(store) if one.tags.get(schema.FINAL_RUN) == final.run_id]
    looks = [one for one in found if one.tags[schema.SNAPSHOT_DIGEST] == final.tags[schema.SNAPSHOT_DIGEST]]
    short = final.run_id[:12]
    look = with_store_argument(store.root, f"make evaluate RUN={short}")
    if not looks:
        raise InputError(f"RUN={short}: it has not been tested, and FORCE=1 cannot stand for that; {look}")
    evaluation = next((one for one in looks if one.outcome == "complete"), None)
    if evaluation is None:
        how = looks[-1].outcome or "still running, or killed"
        raise InputError(f"RUN={short}: its look at the test days did not end ({how}); {look} AGAIN=1")
    return GateEvidence(
        final=final,
        seeds=[one for one in query.children(store, final.experiment_id, final.run_id) if one.kind == "final_seed"],
        trial_alarm=store.client.get_run(final.tags[schema.TRAINED_FROM]).data.tags.get(schema.ALARM, "none"),
        looks=looks,
        evaluation=evaluation,
    )


def evaluate_gates(evidence: GateEvidence) -> list[Gate]:
    """Every gate, passed or not."""
    metrics = evidence.evaluation.metrics
    return [
        *(_beats(metrics, name, title) for name, title in _references(metrics).items()),
        *(_calibrated(metrics, name, perfect) for name, perfect in CALIBRATION.items()),
        _clean(evidence),
        _looked_once(evidence),
        _not_collapsed(evidence),
    ]


def warnings(evidence: GateEvidence) -> list[str]:
    """What no gate asks for and whoever promotes should know.

    Looks for other models are no gate: the second model of a question could never replace the first.
    """
    others = int(evidence.evaluation.tags[schema.LOOKS_BEFORE]) - _related(evidence)
    words = (
        f"these test days had been opened {_times(others)} before, for other models; the best of several looks better by chance"
    )
    return [words] if others else []


def looks_of_others(evidence: GateEvidence) -> str:
    """How often other questions had opened these test days: whether that speaks against a claim is the reader's to say."""
    tags = evidence.evaluation.tags
    if schema.LOOKS_OTHER not in tags:
        return "not counted when it was evaluated"
    number = int(tags[schema.LOOKS_OTHER])
    return f"{_times(number)} before: {tags[schema.QUESTIONS_BEFORE]}" if number else "none before"


def _related(evidence: GateEvidence) -> int:
    """Earlier looks at the same configuration on other seeds or under another calibration."""
    return int(evidence.evaluation.tags.get(schema.LOOKS_RELATED, "0"))


def _times(number: int) -> str:
    return "once" if number == 1 else f"{number} times"


def _references(metrics: Mapping[str, float]) -> dict[str, str]:
    """Every one of them must be beaten: metric name -> title."""
    held = (name.split("/")[0].removeprefix("vs_") for name in metrics if name.startswith("vs_"))
    return REFERENCES | {name: name for name in sorted(set(held) - set(REFERENCES))}


def _beats(metrics: Mapping[str, float], name: str, title: str) -> Gate:
    needed = "95% interval of model - reference below 0 on the test days, and Diebold-Mariano p < 0.05"
    gate = f"beats {title}"
    if f"vs_{name}/high" not in metrics:
        return Gate(name=gate, passed=False, found="was not evaluated against it", needed=needed)
    difference, low, high = (metrics[f"vs_{name}/{part}"] for part in ("difference", "low", "high"))
    # An evaluation from before the test was made is judged by its interval.
    p_value = metrics.get(f"vs_{name}/dm_p", 0.0)
    agreed = p_value < TEST_LEVEL
    told = "inside the noise" if low <= 0 <= high else ("better" if high < 0 else "worse")
    told += "" if agreed or low <= 0 <= high else f", but Diebold-Mariano p {p_value:.3f}"
    passed = high < 0 and agreed
    return Gate(name=gate, passed=passed, found=f"{difference:+.4f} [{low:+.4f}, {high:+.4f}] nats: {told}", needed=needed)


def _calibrated(metrics: Mapping[str, float], name: str, perfect: float) -> Gate:
    metric, gate = f"test_calibration_{name}", f"calibration {name}"
    needed = f"95% interval holds {perfect:g}" + (" and not 0" if perfect else "")
    if f"{metric}_high" not in metrics:
        tested = any(f"test_calibration_{one}_high" in metrics for one in CALIBRATION)
        told = "there is none of these probabilities" if tested else UNTESTED
        return Gate(name=gate, passed=False, found=told, needed=needed)
    value, low, high = metrics[metric], metrics[f"{metric}_low"], metrics[f"{metric}_high"]
    # An interval so wide that it holds 0 too says nothing of a slope.
    passed = low <= perfect <= high and (not perfect or low > 0)
    return Gate(name=gate, passed=passed, found=f"{value:+.3f} [{low:+.3f}, {high:+.3f}]", needed=needed)


def _clean(evidence: GateEvidence) -> Gate:
    runs = [evidence.final, *evidence.seeds]
    commits = {run.tags.get(schema.GIT_COMMIT, "unknown") for run in runs}
    dirty = any(run.tags.get(schema.GIT_DIRTY) != "false" for run in (*runs, evidence.evaluation))
    told = ", ".join(sorted(commit[:12] for commit in commits))
    return Gate(
        name="clean commit",
        passed=not dirty and len(commits) == 1 and "unknown" not in commits,
        found=f"{told}{' with uncommitted changes' if dirty else ''}",
        needed="final run and seeds trained from one commit, nothing uncommitted there and in the evaluation",
    )


def _looked_once(evidence: GateEvidence) -> Gate:
    """Other seeds or another calibration of a configuration that was looked at may have been chosen by what was seen."""
    looks, related = len(evidence.looks), _related(evidence)
    before = f", and {_times(related)} before for the same configuration" if related else ""
    return Gate(
        name="one look",
        passed=looks == 1 and not related and schema.SECOND_LOOK not in evidence.evaluation.tags,
        found=f"test days opened {_times(looks)}{before}",
        needed="test days opened once for this configuration, whatever its seeds and calibration",
    )


def _not_collapsed(evidence: GateEvidence) -> Gate:
    alarms = list(_alarms(evidence))
    return Gate(
        name="no collapse",
        passed=not alarms,
        found="; ".join(alarms) or f"test probabilities spread by {evidence.evaluation.metrics['test_spread']:.3f}",
        needed="no alarm on trial, final run, seeds and test predictions",
    )


def _alarms(evidence: GateEvidence) -> Iterator[str]:
    metrics = evidence.evaluation.metrics
    told = {"trial": evidence.trial_alarm}
    told |= {run.name: run.tags.get(schema.ALARM, "none") for run in (evidence.final, *evidence.seeds, evidence.evaluation)}
    told["test predictions"] = alarm_of(metrics["test_spread"], metrics["test_skill"])
    least = metrics.get(schema.LEAST_SEED_SPREAD)
    if least is not None and least < COLLAPSED_SPREAD:
        told["a seed's test predictions"] = "collapsed"
    yield from (f"{what}: {alarm}" for what, alarm in told.items() if alarm != "none")
