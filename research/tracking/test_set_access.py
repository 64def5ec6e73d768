"""Accesses to test days: evaluations of the same question, and of other questions on the same days."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from research.tracking import schema
from research.tracking.run_record import RunRecord

QUESTION = ("symbol", "task", "horizon", "threshold", "touch", "shuffled")
"""Parameters that labels depend on."""
Params = Mapping[str, object]
"""Parameters of an evaluation, or of any run with a split."""


def same_question(theirs: Params, mine: Params) -> bool:
    """Return whether two runs have labels by the same rule."""
    return all(theirs.get(name) == mine[name] for name in QUESTION if name in mine)


def is_of_the_question(evaluation: RunRecord, mine: Params, experiment_id: object, target_digest: object) -> bool:
    """Return whether an evaluation used the same labels on some of the same days.

    Experiment and parameters identify the labels.
    """
    if evaluation.experiment_id != experiment_id:
        return False
    if "test_start" not in evaluation.params:
        # Killed before it recorded which days it opens.
        return evaluation.tags.get(schema.TARGET_DIGEST) == target_digest
    return same_question(evaluation.params, mine) and shares_days(evaluation.params, mine)


def shares_days(evaluation: Params, mine: Params) -> bool:
    """Return whether an evaluation has opened some of a run's test days.

    Compared by days, not by digests: one more bar makes another snapshot with the same test days.
    """
    if "test_start" not in evaluation or "test_end" not in mine:
        return False
    begins, ends = str(evaluation["test_start"]), str(evaluation["test_end"])
    return begins <= str(mine["test_end"]) and str(mine["validation_end"]) < ends


def shares_instruments(theirs: Params, mine: Params) -> bool:
    """Return whether both predict at least one instrument, by name: an index and a fund on it are two."""
    return bool(_instruments(theirs) & _instruments(mine))


def by_question(evaluations: Iterable[RunRecord], experiments: Mapping[str, str]) -> dict[str, int]:
    """Return the number of evaluations of each question; `experiments` is id -> name."""
    return dict(Counter(f"{experiments[run.experiment_id]} h{run.params['horizon']}" for run in evaluations))


def questions_as_text(questions: Mapping[str, int]) -> str:
    """Return the questions in words, each with its number of evaluations: `sp500-threshold-1pct h1 (2), …`."""
    return ", ".join(f"{name} ({number})" for name, number in questions.items())


def _instruments(params: Params) -> set[str]:
    return set(str(params.get("validate_on") or params.get("symbol", "")).split(",")) - {""}
