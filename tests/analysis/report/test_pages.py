"""The page stands alone, keeps every word that was put into it, and never lets a word act as a mark."""

from __future__ import annotations

import re
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from analysis.report import html, markdown
from analysis.report.document import Commands, Image, Items, Link, Paragraph, ReportDocument, Section, Table

LINK = Link(text="0.3743", url="http://127.0.0.1:5000/#/experiments/1/runs/abc", hint="run abc")
REPORT = ReportDocument(
    title="Does bigger help?",
    summary=[Paragraph(text=["The best is ", LINK, "."], tone="finding"), Items(items=["one", ["two ", LINK]])],
    sections=[
        Section(
            title="The frontier, horizon 1",
            blocks=[
                Table(
                    caption="By budget",
                    columns=["budget", "loss"],
                    rows=[["2K", LINK], ["a|b", "1"]],
                    notes=["~ inside the noise"],
                ),
                Image(name="frontier", caption="All trials", alternative="loss against size", png=b"\x89PNG"),
            ],
        ),
        Section(title="Again", blocks=[Commands(lines=["make report", "make ui"]), Paragraph(text="careful", tone="caution")]),
    ],
    made="made today",
)
VOID = {"meta", "img", "br", "link", "input", "hr"}


class Reader(HTMLParser):
    """Words, addresses and whatever is not closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.words: list[str] = []
        self.addresses: list[str] = []
        self.anchors: set[str] = set()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in ("href", "src")]
        self.anchors |= {value or "" for name, value in attrs if name == "id"}
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.words.append(data)


def read(text: str) -> Reader:
    reader = Reader()
    reader.feed(text)
    assert reader.open == []
    return reader


def test_the_page_needs_no_other_file_and_no_network() -> None:
    page = html.page(REPORT)
    assert "<script" not in page
    assert "@import" not in page
    assert "url(" not in page
    for address in read(page).addresses:
        assert address.startswith(("#", "data:image/png;base64,", "http://127.0.0.1:5000/#/experiments/"))


def test_contents_lead_to_sections() -> None:
    found = read(html.page(REPORT))
    inner = {address[1:] for address in found.addresses if address.startswith("#")}
    assert inner == found.anchors == {"the-frontier-horizon-1", "again"}


def test_a_number_leads_to_its_run() -> None:
    assert LINK.url in read(html.page(REPORT)).addresses
    assert f"[0.3743]({LINK.url})" in markdown.page(REPORT)


def test_markdown_finds_its_figures_beside_it_and_keeps_table_cells_apart() -> None:
    page = markdown.page(REPORT)
    assert "![loss against size](figures/frontier.png)" in page
    rows = [line for line in page.splitlines() if line.startswith("|")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} == {3}


@given(st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1))
def test_any_word_comes_out_as_it_went_in(word: str) -> None:
    report = ReportDocument(
        title=word,
        summary=[Paragraph(text=[word, Link(text=word, url="http://x/", hint=word)])],
        sections=[Section(title="s", blocks=[Table(caption=word, columns=[word], rows=[[word]])])],
        made=word,
    )
    assert "".join(read(html.page(report)).words).count(word) >= 6
