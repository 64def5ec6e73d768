"""The page of measured ratios, docs/benchmarks.md: a section per bench, each replaced when its bench runs again."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

from benchmarks.gemm import GemmPeak
from benchmarks.harness import Measurement, cells
from research.runtime import hardware

CPU = torch.device("cpu")
PAGE = Path("docs/benchmarks.md")
COLUMNS = ("bench", "seconds", "reference", "ratio", "at most", "met")
PACKAGES = ("torch", "numpy", "mlflow", "optuna", "transformers")
HEADING = "## "
INTRODUCTION = """\
# Benchmarks

What parts of tapescale cost beside what one would otherwise use for the same. **Ratios are what counts**: both sides of
a ratio were measured in the same run on the same machine, in turns; seconds are those of the machine that the section
names. *ratio* is seconds by reference, *at most* the target that the ratio or the seconds are held to. This page is
written by

```sh no-run: takes eight minutes
make bench                    # every bench
make bench ARGS='data'        # one of them: its section is replaced, the others stay
```

The newest section was measured here:
"""


@dataclass(frozen=True, kw_only=True)
class BenchSection:
    """Results of one benchmark."""

    name: str
    rows: Sequence[Measurement]
    notes: Sequence[str] = ()
    """Sentences below the table."""


@dataclass(frozen=True, kw_only=True)
class BenchMachine:
    """Machine of a benchmark run."""

    facts: Mapping[str, str | int]
    """Hardware facts, as in the record of a run."""
    peak: GemmPeak
    """Peak rate of one thread, measured in the same run."""
    versions: Mapping[str, str]
    """Versions of the compared and used packages."""

    @classmethod
    def here(cls, peak: GemmPeak, device: torch.device = CPU) -> BenchMachine:
        """Return this machine with its package versions."""
        return cls(facts=hardware(device), peak=peak, versions=dict(_installed()))

    @property
    def title(self) -> str:
        """Return a short description for every section."""
        name = self.facts["cpu"] if self.facts["device"] == "cpu" else self.facts["accelerator"]
        return f"{name}, {self.facts['cores']} cores, torch {self.facts['torch']}"

    def lines(self) -> list[str]:
        """Return all facts as a list."""
        f = self.facts
        versions = ", ".join(f"{name} {number}" for name, number in self.versions.items())
        return [
            f"- {f['cpu']} ({f['machine']}), {f['cores']} cores, {int(f['memory_bytes']) / 2**30:.0f} GiB, {f['system']}",
            f"- a matrix product on one thread reaches {self.peak.title}",
            f"- Python {f['python']}, {versions}",
        ]


def write_page(sections: Sequence[BenchSection], machine: BenchMachine, path: Path = PAGE) -> None:
    """Replace these sections on the page; sections of other benchmarks do not change."""
    kept = path.read_text(encoding="utf-8") if path.exists() else ""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(page(sections, machine, day=date.today(), kept=kept), encoding="utf-8")


def page(sections: Sequence[BenchSection], machine: BenchMachine, *, day: date, kept: str = "") -> str:
    """Return the whole page. Sections keep their order in the old page `kept`; new ones follow."""
    written = {section.name: _section(section, machine, day) for section in sections}
    parts = {**sections_of(kept), **written}
    return "\n".join([INTRODUCTION, *machine.lines(), "", *parts.values()])


def sections_of(text: str) -> dict[str, str]:
    """Return the sections of a page by heading; text before the first heading is not a section."""
    parts = re.split(rf"^(?={HEADING})", text, flags=re.MULTILINE)
    found = [part.rstrip() + "\n" for part in parts if part.startswith(HEADING)]
    return {part.splitlines()[0].removeprefix(HEADING).strip(): part for part in found}


def _section(section: BenchSection, machine: BenchMachine, day: date) -> str:
    """Return the text of a section with its day and machine, which may differ between sections."""
    lines = [f"{HEADING}{section.name}", "", f"{day.isoformat()} on {machine.title}.", ""]
    lines += [*_table(section.rows), ""] if section.rows else []
    lines += [f"- {note}" for note in section.notes]
    return "\n".join(lines).rstrip() + "\n"


def _table(rows: Sequence[Measurement]) -> list[str]:
    rule = ["---", *("---:" for _ in COLUMNS[1:])]
    return [_line(COLUMNS), _line(rule), *(_line(cells(row)) for row in rows)]


def _line(texts: Sequence[str]) -> str:
    # A vertical bar in a text would end its cell.
    return "| " + " | ".join(text.replace("|", r"\|") for text in texts) + " |"


def _installed() -> list[tuple[str, str]]:
    found = []
    for name in PACKAGES:
        try:
            found.append((name, version(name)))
        except PackageNotFoundError:
            continue
    return found
