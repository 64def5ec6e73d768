"""What was asked, of which bytes, with how much evidence, and the commands that do it again."""

from __future__ import annotations

from typing import Any

from analysis.report.commands import as_words, bundled_digests, settings_of
from analysis.report.document import Block, Commands, Inline, Paragraph, Section, Table
from analysis.report.inputs import ReportInputs, ReportQuestion
from research.tracking import schema
from research.tracking.test_set_access import questions_as_text

TASKS = {
    "threshold": "does the {touch} touch {threshold:+.4g}% within {horizon} session{s}?",
    "downside": "does the {touch} fall by {threshold:.4g}% within {horizon} session{s}?",
}


def question_section(sources: ReportInputs) -> Section:
    """One row per question; data by their digests."""
    asked = [_asked(one) for one in sources.questions]
    rows: list[list[Inline]] = []
    for one in sources.questions:
        first = one.sweeps.iloc[0] if len(one.sweeps) else None
        digests = [str(first[name])[:12] for name in DIGESTS] if first is not None else ["-"] * len(DIGESTS)
        rows.append([one.title, one.frontier.features, one.frontier.instruments, one.frontier.study[:12], *digests])
    blocks: list[Block] = [
        *(Paragraph(text=text) for text in asked),
        Table(
            caption="What each question stands on; runs with equal digests saw equal bytes",
            columns=["question", "features", "instruments", "study", "bars", "feature matrix", "labels"],
            rows=rows,
        ),
    ]
    if len(sources.snapshots):
        blocks.append(_snapshot_table(sources))
    return Section(title="Question and data", blocks=blocks)


DIGESTS = (schema.SNAPSHOT_DIGEST, schema.FEATURE_DIGEST, schema.TARGET_DIGEST)


def _asked(one: ReportQuestion) -> str:
    if not len(one.sweeps):
        return f"{one.title}."
    run = one.sweeps.iloc[0]
    words: dict[str, Any] = {
        "touch": "closing price" if run.get("touch") == "close" else "high" if run["task"] == "threshold" else "price",
        "threshold": 100 * float(run["threshold"]),
        "horizon": one.frontier.horizon,
        "s": "s" if one.frontier.horizon > 1 else "",
    }
    asked = TASKS.get(str(run["task"]), "task {task}, horizon {horizon}").format(**words, task=run["task"])
    return f"{one.title}: {asked} Seen: {one.frontier.context_length} days of {one.frontier.features}."


def _snapshot_table(sources: ReportInputs) -> Table:
    rows: list[list[Inline]] = [
        [
            str(run[schema.SNAPSHOT_DIGEST])[:12],
            str(run["source"]),
            str(run["symbols"]),
            f"{run['first']} .. {run['last']}",
            f"{int(run['n_rows']):,}",
            f"{int(run['n_warnings'])}",
        ]
        for _, run in sources.snapshots.iterrows()
    ]
    return Table(
        caption="Snapshots: immutable bars, named by their content",
        columns=["bars", "source", "symbols", "days", "rows", "warnings"],
        rows=rows,
    )


def evidence_section(sources: ReportInputs) -> Section:
    """Splits by date with the number of rows, of independent labels, and the base rate with its standard error."""
    rows: list[list[Inline]] = []
    for one in sources.questions:
        if not len(one.sweeps):
            continue
        run = one.sweeps.iloc[0]
        ends = {"train": f".. {run['train_end']}", "validation": f".. {run['validation_end']}", "test": f".. {run['test_end']}"}
        for split, until in ends.items():
            rows.append([sources.link(one.title, str(run["run_id"])), split, until, *_counts(run, split)])
    about = "Rows are days with a complete context and a label. Training labels whose interval meets a later split were purged."
    return Section(
        title="Splits and evidence",
        blocks=[
            Paragraph(text=about),
            Table(
                caption="How much there is to learn from and to judge by",
                columns=["question", "split", "until", "rows", "positives", "base rate"],
                rows=rows,
                notes=[f"{one.title}: {test_days(one)} No number here comes from them." for one in sources.questions],
            ),
        ],
    )


def test_days(one: ReportQuestion) -> str:
    """Whether they were opened, and how often."""
    looks = one.looks
    others = f" Other questions opened them: {questions_as_text(looks.others)}." if looks.others else ""
    if not looks.own:
        return f"the test days were not opened{' for this question' if others else ''}.{others}"
    again = f", {looks.second} of them a second look at the same final run" if looks.second else ""
    return f"the test days were opened {looks.own} time{'s' if looks.own > 1 else ''} by `make evaluate`{again}.{others}"


def _counts(run: Any, split: str) -> list[Inline]:
    def value(name: str) -> float:
        return float(run.get(f"{schema.SWEEP_PREFIX}{split}_{name}", float("nan")))

    if value("positives") != value("positives"):
        return [f"{value('n'):,.0f}", "not told", "not told"]
    return [f"{value('n'):,.0f}", f"{value('positives'):,.0f}", f"{value('base_rate'):.3f} ± {value('base_rate_se'):.3f}"]


def reproduction_section(sources: ReportInputs) -> Section:
    """One command for all sweeps that differ in budget and horizon only."""
    bundled = bundled_digests(sources)
    sweeps = [(one, run) for one in sources.questions for _, run in one.sweeps.iterrows()]
    # Settings -> horizon -> budgets, then the horizons that have the same budgets together.
    budgets: dict[tuple[str, int], list[str]] = {}
    for one, run in sweeps:
        budgets.setdefault((as_words(settings_of(one, run, bundled)), one.frontier.horizon), []).append(str(run["budget"]))
    horizons: dict[tuple[str, str], list[int]] = {}
    for (settings, horizon), labels in budgets.items():
        horizons.setdefault((settings, ",".join(labels)), []).append(horizon)
    lines = [
        f"make study BUDGETS={labels} HORIZONS={','.join(map(str, found))} {settings}"
        for (settings, labels), found in horizons.items()
    ]
    commits = sorted({f"{str(run[schema.GIT_COMMIT])[:12]}{_dirt(run)}" for _, run in sweeps})
    return Section(
        title="How to get it again",
        blocks=[Paragraph(text=f"Code: commit {', '.join(commits)}."), Commands(lines=[*lines, "make report"])],
    )


def _dirt(run: Any) -> str:
    return " with uncommitted changes" if str(run[schema.GIT_DIRTY]) == "true" else ""
