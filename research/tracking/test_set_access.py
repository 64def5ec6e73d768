"""Whose test days are the same ones: evaluations of one question, and of others that opened them too."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from research.tracking import schema
from research.tracking.run_record import RunRecord

QUESTION = ("symbol", "task", "horizon", "threshold", "touch", "shuffled")
"""Parameters that labels depend on."""
Params = Mapping[str, object]
"""Of an evaluation, or of any run that has a split."""


def same_question(theirs: Params, mine: Params) -> bool:
    """Whether two runs have labels by the same rule; one from before there was a parameter has its default."""
    return all(theirs.get(name, mine[name]) == mine[name] for name in QUESTION if name in mine)


def is_of_the_question(evaluation: RunRecord, mine: Params, experiment_id: object, target_digest: object) -> bool:
    """Whether it has looked at the same labels of some of the same days; labels are told by experiment and parameters."""
    if evaluation.experiment_id != experiment_id:
        return False
    if "test_start" not in evaluation.params:
        # Killed before it could say what it opens.
        return evaluation.tags.get(schema.TARGET_DIGEST) == target_digest
    return same_question(evaluation.params, mine) and shares_days(evaluation.params, mine)


def shares_days(evaluation: Params, mine: Params) -> bool:
    """Whether an evaluation has opened some of a run's test days.

    By days and not by digests: with one more bar the snapshot is another, and its test days are the old ones.
    """
    if "test_start" not in evaluation or "test_end" not in mine:
        return False
    begins, ends = str(evaluation["test_start"]), str(evaluation["test_end"])
    return begins <= str(mine["test_end"]) and str(mine["validation_end"]) < ends


def shares_instruments(theirs: Params, mine: Params) -> bool:
    """Whether one instrument at least is predicted in both, by its name: an index and a fund on it are two."""
    return bool(_instruments(theirs) & _instruments(mine))


def by_question(evaluations: Iterable[RunRecord], experiments: Mapping[str, str]) -> dict[str, int]:
    """How many there are of each question; `experiments` is id -> name, which says all of a question but its horizon."""
    return dict(Counter(f"{experiments[one.experiment_id]} h{one.params['horizon']}" for one in evaluations))


def questions_as_text(questions: Mapping[str, int]) -> str:
    """The questions in words, each with its number of looks: `sp500-threshold-1pct h1 (2), …`."""
    return ", ".join(f"{name} ({number})" for name, number in questions.items())


def _instruments(params: Params) -> set[str]:
    return set(str(params.get("validate_on") or params.get("symbol", "")).split(",")) - {""}
