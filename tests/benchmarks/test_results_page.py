from __future__ import annotations

from datetime import date
from pathlib import Path

from benchmarks.gemm import GemmPeak
from benchmarks.harness import Measurement
from benchmarks.results_page import BenchMachine, BenchSection, page, sections_of, write_page

FACTS = {
    "machine": "x86_64",
    "system": "Linux 6",
    "device": "cpu",
    "cpu": "CPU A",
    "cores": 2,
    "memory_bytes": 8 * 2**30,
    "torch": "2.13",
}
MACHINE = BenchMachine(
    facts={**FACTS, "python": "3.11"}, peak=GemmPeak(float32=80e9, bfloat16=160e9), versions={"torch": "2.13", "numpy": "2.4"}
)
OTHER = BenchMachine(facts={**MACHINE.facts, "cpu": "CPU B"}, peak=MACHINE.peak, versions=MACHINE.versions)
DAY, LATER = date(2026, 1, 2), date(2026, 3, 4)
ROWS = [
    Measurement(name="ours / theirs", seconds=1.0, reference=8.0, most_ratio=0.2),
    Measurement(name="alone", seconds=6.0, most_seconds=5.0),
]
READING = BenchSection(name="reading", rows=ROWS)
DATA = BenchSection(name="data", rows=[Measurement(name="windows", seconds=0.5)], notes=["A sentence.", "Another one."])


def test_a_section_is_a_heading_a_day_a_machine_a_table_and_notes() -> None:
    text = page([READING, DATA], MACHINE, day=DAY)
    assert (
        """
## reading

2026-01-02 on CPU A, 2 cores, torch 2.13.

| bench | seconds | reference | ratio | at most | met |
| --- | ---: | ---: | ---: | ---: | ---: |
| ours / theirs | 1.000 | 8.000 | 0.125 | 0.200 | yes |
| alone | 6.000 |  |  | 5 s | no |

## data
"""
        in text
    )
    assert text.endswith("| windows | 0.500 |  |  |  |  |\n\n- A sentence.\n- Another one.\n")


def test_the_page_says_what_counts_how_to_make_it_and_where_it_was_made() -> None:
    head = page([READING], MACHINE, day=DAY).split("\n## ")[0]
    for text in ("**Ratios are what counts**", "make bench", "CPU A (x86_64), 2 cores, 8 GiB, Linux 6", "Python 3.11"):
        assert text in head
    assert "80 GFLOP/s float32, 160 GFLOP/s bfloat16" in head
    assert "torch 2.13, numpy 2.4" in head


def test_a_bench_replaces_its_section_and_keeps_the_others_and_their_order() -> None:
    before = page([READING, DATA], MACHINE, day=DAY)
    changed = BenchSection(name="reading", rows=[Measurement(name="alone", seconds=4.0, most_seconds=5.0)])
    after = page([changed, BenchSection(name="new", rows=[], notes=["left out"])], OTHER, day=LATER, kept=before)
    assert list(sections_of(after)) == ["reading", "data", "new"]
    assert sections_of(after)["data"] == sections_of(before)["data"]
    assert "2026-03-04 on CPU B" in sections_of(after)["reading"]
    assert "| alone | 4.000 |  |  | 5 s | yes |" in after
    assert "ours / theirs" not in after
    assert sections_of(after)["new"].endswith("\n- left out\n")
    assert after.count("# Benchmarks") == 1


def test_the_same_again_is_the_same_page() -> None:
    before = page([READING, DATA], MACHINE, day=DAY)
    assert page([READING], MACHINE, day=DAY, kept=before) == before
    assert page([READING, DATA], MACHINE, day=DAY, kept=before) == before


def test_a_bar_in_a_name_does_not_end_its_cell() -> None:
    assert r"| a \| b | 1.000 |" in page(
        [BenchSection(name="s", rows=[Measurement(name="a | b", seconds=1.0)])], MACHINE, day=DAY
    )


def test_a_page_is_written_where_there_was_none_and_grows(tmp_path: Path) -> None:
    path = tmp_path / "docs" / "benchmarks.md"
    write_page([READING], MACHINE, path)
    write_page([DATA], MACHINE, path)
    assert list(sections_of(path.read_text())) == ["reading", "data"]


def test_this_machine_is_described() -> None:
    here = BenchMachine.here(MACHINE.peak)
    assert here.versions["torch"] == here.facts["torch"]
    assert str(here.facts["cpu"]) in here.title
    assert any("Python 3." in line for line in here.lines())
