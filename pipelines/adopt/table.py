"""What became of each file: numbers first, then a table and sentences."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from pipelines.adopt.size import OUTSIDE, WITHIN
from pipelines.adopt.writer import Candidate, FileResult

EXAMPLES = 3
COLUMNS = ("study", "adopted", "repeated", "ended as", "objective", "claimed", "counted", "claim holds")
LEFT = ("study", "ended as", "objective")
WRAPPED = "ended as"


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
    """Counted size; None where no trial's shape is known."""
    largest: int | None
    holds: int
    """Trials whose counted size lies within the tolerance of the label."""
    judged: int
    """Trials that have both a label and a counted size."""


def rows_of(result: FileResult) -> list[StudyRow]:
    """One row per study, in the order of the file."""
    everything = [*result.adopted, *(one.candidate for one in result.known)]
    new = {id(candidate) for candidate in result.adopted}
    studies = dict.fromkeys(candidate.record.study for candidate in result.source.candidates)
    return [_row([one for one in everything if one.record.study == study], new) for study in studies]


def _row(candidates: list[Candidate], new: set[int]) -> StudyRow:
    sizes = [one.size.counted for one in candidates if one.size.counted is not None]
    claims = Counter(one.size.claim for one in candidates)
    study = candidates[0].record.study
    return StudyRow(
        study=study.label,
        adopted=sum(id(one) in new for one in candidates),
        repeated=sum(id(one) not in new for one in candidates),
        outcomes=dict(Counter(one.record.outcome for one in candidates)),
        metrics=tuple(sorted({one.record.metric for one in candidates if one.record.metric})),
        claimed=study.budget,
        smallest=min(sizes, default=None),
        largest=max(sizes, default=None),
        holds=claims[WITHIN],
        judged=claims[WITHIN] + claims[OUTSIDE],
    )


def sentences(result: FileResult) -> list[str]:
    """What was not adopted and why, where in the file, and what was taken for granted."""
    rejected = [(one.reason, one.place) for one in result.source.rejections]
    again = [(f"repeats a trial adopted from {one.source}", one.candidate.record.place) for one in result.known]
    disputed = [one for one in result.known if one.differs]
    assumed = Counter(text for one in result.adopted for text in (*one.record.assumed, *one.size.assumed))
    uncounted = [(one.size.why, one.record.place) for one in result.adopted if one.size.counted is None]
    lines = [f"not adopted: {line}" for line in _counted([*rejected, *again])]
    lines += [f"{one.candidate.record.place} disagrees with {one.source}: {'; '.join(one.differs)}" for one in disputed]
    lines += [f"size not counted: {line}" for line in _counted(uncounted)]
    if assumed:
        lines.append(f"assumed, as the file does not say it: {', '.join(f'{text} ({n})' for text, n in assumed.items())}")
    return lines


def _counted(reasons: Iterable[tuple[str, str]]) -> list[str]:
    places: dict[str, list[str]] = {}
    for reason, place in reasons:
        places.setdefault(reason, []).append(place)
    return [f"{len(found)} x {reason} ({_examples(found)})" for reason, found in places.items()]


def _examples(places: Sequence[str]) -> str:
    return ", ".join(places[:EXAMPLES]) + (", ..." if len(places) > EXAMPLES else "")


def print_file(result: FileResult, console: Console) -> None:
    """A table of the file's studies, then the sentences."""
    source = result.source
    table = Table(
        title=f"{source.name}: {source.form}", title_justify="left", box=SIMPLE_HEAD, pad_edge=False, collapse_padding=True
    )
    for column in COLUMNS:
        table.add_column(column, justify="left" if column in LEFT else "right", no_wrap=column != WRAPPED)
    for row in rows_of(result):
        table.add_row(*_cells(row))
    console.print(table)
    for sentence in sentences(result):
        console.print(f"  {sentence}", soft_wrap=True, highlight=False, markup=False)
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
