"""`make report`: one page about the store as HTML and Markdown, with figures, kept as a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import ReportOptions

if TYPE_CHECKING:
    from analysis.report.document import ReportDocument


def main(options: ReportOptions) -> None:
    """Write the report, print its answers and where it is."""
    from analysis.report.assemble import assemble_report
    from analysis.report.inputs import read_inputs
    from analysis.report.output import log_report, write_report
    from research.cli.console import console, print_line, short_path
    from research.cli.next_steps import print_next
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store, must_exist=True)
    inputs = read_inputs(store, options.experiment, options.ui)
    folder = store.root / "reports" / f"report-{options.experiment or 'all'}"
    report = assemble_report(store, inputs, folder / "figures")
    pages = write_report(report, folder)
    for line in summary(report):
        print_line(screen, line, markup=False)
    screen.print()
    for page in pages:
        print_line(screen, f"report {short_path(page)}", markup=False)
    if options.log:
        print_line(screen, f"run    {log_report(store, inputs, folder)}")
    print_next(screen, options.store, "open the page in a browser", "make ui", "make forecast BUDGET=<a larger size>")


def summary(report: ReportDocument) -> list[str]:
    """Return the answers that the page begins with."""
    from analysis.report.document import Paragraph, parts

    texts = [parts(block.text) for block in report.summary if isinstance(block, Paragraph) and block.tone == "finding"]
    return ["".join(part if isinstance(part, str) else part.text for part in text) for text in texts]
