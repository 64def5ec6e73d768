"""Result of each adopted file as a table and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from rich.console import Console

from pipelines.adopt.size import OUTSIDE, WITHIN
from pipelines.adopt.writer import Candidate, FileResult
from research.cli.console import plain_table, print_line

EXAMPLES = 3
COLUMNS = ("study", "adopted", "repeated", "ended as", "objective", "claimed", "counted", "claim holds")
LEFT = ("study", "ended as", "objective")


@dataclass(frozen=True, kw_only=True)
class StudyRow:
    """The trials of one study in one file."""

    study: str
    adopted: int
    repeated: int
    outcomes: dict[str, int]
    metrics: tuple[str, ...]
    """Names of the objectives."""
    claimed: str | None
    """Budget label."""
    smallest: int | None
    """Smallest counted size; None if the shape of every trial is unknown."""
    largest: int | None
    holds: int
    """Number of trials whose counted size lies within the tolerance of the label."""
    judged: int
    """Number of trials with both a label and a counted size."""


def rows_of(result: FileResult) -> list[StudyRow]:
    """Return one row per study, in the order of the file."""
    candidates = [*result.adopted, *(repeat.candidate for repeat in result.known)]
    new = {id(candidate) for candidate in result.adopted}
    studies = dict.fromkeys(candidate.record.study for candidate in result.source.candidates)
    return [_row([candidate for candidate in candidates if candidate.record.study == study], new) for study in studies]


def _row(candidates: list[Candidate], new: set[int]) -> StudyRow:
    sizes = [trial.size.counted for trial in candidates if trial.size.counted is not None]
    claims = Counter(trial.size.claim for trial in candidates)
    study = candidates[0].record.study
    return StudyRow(
        study=study.label,
        adopted=sum(id(trial) in new for trial in candidates),
        repeated=sum(id(trial) not in new for trial in candidates),
        outcomes=dict(Counter(trial.record.outcome for trial in candidates)),
        metrics=tuple(sorted({trial.record.metric for trial in candidates if trial.record.metric})),
        claimed=study.budget,
        smallest=min(sizes, default=None),
        largest=max(sizes, default=None),
        holds=claims[WITHIN],
        judged=claims[WITHIN] + claims[OUTSIDE],
    )


def sentences(result: FileResult) -> list[str]:
    """Return sentences about rejected and repeated trials, their places in the file, and assumptions."""
    rejected = [(rejection.reason, rejection.place) for rejection in result.source.rejections]
    again = [(f"repeats a trial adopted from {repeat.source}", repeat.candidate.record.place) for repeat in result.known]
    assumed = Counter(text for trial in result.adopted for text in (*trial.record.assumed, *trial.size.assumed))
    uncounted = [(trial.size.why, trial.record.place) for trial in result.adopted if trial.size.counted is None]
    lines = [f"not adopted: {line}" for line in _counted([*rejected, *again])]
    for repeat in result.known:
        if repeat.differs:
            place, differences = repeat.candidate.record.place, "; ".join(repeat.differs)
            lines.append(f"{place} disagrees with {repeat.source}: {differences}")
    lines += [f"size not counted: {line}" for line in _counted(uncounted)]
    if assumed:
        lines.append(f"assumed, not stated in the file: {', '.join(f'{text} ({n})' for text, n in assumed.items())}")
    return lines


def _counted(reasons: Iterable[tuple[str, str]]) -> list[str]:
    places: dict[str, list[str]] = {}
    for reason, place in reasons:
        places.setdefault(reason, []).append(place)
    lines = []
    for reason, at in places.items():
        examples = ", ".join(at[:EXAMPLES]) + (", ..." if len(at) > EXAMPLES else "")
        lines.append(f"{len(at)} x {reason} ({examples})")
    return lines


def print_file(result: FileResult, console: Console) -> None:
    """Print a table of the file's studies, then the sentences."""
    table = plain_table(f"{result.source.name}: {result.source.form}", COLUMNS, LEFT)
    # A study can end in many ways; this column wraps.
    table.columns[COLUMNS.index("ended as")].no_wrap = False
    for row in rows_of(result):
        table.add_row(*_cells(row))
    console.print(table)
    for sentence in sentences(result):
        print_line(console, f"  {sentence}", markup=False)
    console.print()


def _cells(row: StudyRow) -> list[str]:
    sizes = sorted({size for size in (row.smallest, row.largest) if size is not None})
    return [
        row.study,
        str(row.adopted),
        str(row.repeated),
        ", ".join(f"{count} {outcome}" for outcome, count in row.outcomes.items()),
        ", ".join(row.metrics) or "-",
        row.claimed or "-",
        " .. ".join(f"{size:,}" for size in sizes) or "-",
        f"{row.holds} of {row.judged}" if row.judged else "-",
    ]
