"""The report on one question: verdict, frontier with baselines, noise, confidence set, forecasts."""

from __future__ import annotations

from analysis.compare import p_value_text
from analysis.laws.verdicts import Claim, Verdict
from analysis.leaderboard import leaderboard_sentences
from analysis.report.document import Block, Image, Inline, Items, Paragraph, Section, Table
from analysis.report.inputs import ReportQuestion, RunLink
from analysis.report.tables import report_table
from analysis.results.preregistered import MEANINGS
from analysis.store_scaling import law_table
from research.tracking.schema import BASELINE_TITLES, baseline_titles

PLAIN: dict[Claim, str] = {
    "scaling": "Yes: the loss falls with size.",
    "inverse": "No: the loss rises with size.",
    "equivalent": "No: a tenfold size changes the loss by less than {margin:.0%}.",
    "inconclusive": "No evidence of scaling, and none against it: these runs cannot tell.",
}
"""Verdicts in plain words."""


def section(question: ReportQuestion, link: RunLink, figure: Image) -> Section:
    """Return the section of one question."""
    blocks: list[Block] = [
        Paragraph(text=answer(question), tone="finding"),
        figure,
        _frontier_table(question, link),
        _noise_table(question, link),
    ]
    if question.judgement:
        blocks.append(_verdict_table(question.judgement.verdict))
        blocks += [Paragraph(text=caution, tone="caution") for caution in question.judgement.cautions]
    if laws := law_table(question.frontier):
        blocks.append(report_table(laws))
    blocks.append(Items(items=leaderboard_sentences(question.frontier)))
    if question.standings:
        blocks.append(_standings_table(question, link))
    if question.forecasts:
        blocks.append(_forecast_table(question, link))
    return Section(title=question.title, blocks=blocks)


def answer(question: ReportQuestion) -> str:
    """Return whether the loss scales with size, and whether any budget beats the baselines."""
    return f"{_scaling(question)} {_against_baselines(question)}"


def _scaling(question: ReportQuestion) -> str:
    if question.judgement is None:
        count = len(question.frontier.entries)
        tried = "One budget was" if count == 1 else f"{count} budgets were"
        return f"{tried} tried: no trend can be judged below three."
    verdict = question.judgement.verdict
    return (
        f"{PLAIN[verdict.claim].format(margin=verdict.margin)} A tenfold size changes the loss by {verdict.slope:+.1%}, "
        f"95% interval [{verdict.low:+.1%}, {verdict.high:+.1%}], from {verdict.n_budgets} budgets; a change of "
        f"{verdict.detectable:.1%} would have been found four times out of five.{verdict.near_miss}"
    )


def _against_baselines(question: ReportQuestion) -> str:
    losses = {name: loss for name, loss in question.frontier.baselines.items() if name != "prior"}
    if not losses:
        return "No baseline was run on the same rows."
    strongest = min(losses, key=lambda name: losses[name])
    title = BASELINE_TITLES.get(strongest, strongest)
    better = [entry.budget for entry in question.frontier.entries if entry.against[strongest].high < 0]
    if better:
        return f"Beyond the noise of the days, {', '.join(better)} beats the strongest baseline, {title}."
    return f"No budget beats the strongest baseline, {title} at {losses[strongest]:.4f}, beyond the noise of the days."


def _frontier_table(question: ReportQuestion, link: RunLink) -> Table:
    frontier = question.frontier
    titles = baseline_titles(frontier.baselines)
    compared = [name for name in titles if name != "prior"]
    differences = [f"minus {titles[name]}" for name in compared]
    rows: list[list[Inline]] = []
    for entry in frontier.entries:
        gaps = [entry.against[name] for name in compared]
        intervals = [f"{gap.mean:+.4f} [{gap.low:+.4f}, {gap.high:+.4f}]{'~' if gap.inside_noise else ''}" for gap in gaps]
        loss = link(f"{entry.val_loss:.4f}", entry.run_id)
        alarm = "" if entry.alarm == "none" else f" ({entry.alarm})"
        rows.append([entry.budget, entry.architecture + alarm, f"{entry.n_params:,}", loss, f"{entry.skill:+.3f}", *intervals])
    for name, title in titles.items():
        baseline_loss = frontier.baselines[name]
        skill = 1 - baseline_loss / frontier.base_rate_loss
        cells: list[Inline] = [title, "baseline", "", link(f"{baseline_loss:.4f}", frontier.baseline_runs[name])]
        rows.append([*cells, f"{skill:+.3f}", *("" for _ in compared)])
    return Table(
        caption=f"Best trial of each budget, in nats over {frontier.n_days:,} validation days, compared with the baselines",
        columns=["budget", "best architecture", "parameters", "val_loss", "skill", *differences],
        rows=rows,
        notes=[
            "In brackets: 95% of the paired daily difference, circular block bootstrap, blocks of 60 days; ~ inside the noise."
        ],
    )


def _noise_table(question: ReportQuestion, link: RunLink) -> Table:
    n = question.sure[0].n
    entries = {entry.budget: entry for entry in question.frontier.entries}
    # A sweep's own run holds the losses of its replicates.
    sweeps = dict(zip(map(str, question.sweeps["budget"]), map(str, question.sweeps["run_id"]), strict=True))
    rows: list[list[Inline]] = []
    for loss in question.sure:
        entry = entries[loss.budget]
        mean = f"{loss.fresh_mean:.4f} ± {_number(loss.fresh_error)} ({loss.fresh_seeds})" if loss.fresh_seeds else "-"
        fresh = link(mean, sweeps[loss.budget]) if loss.fresh_seeds and loss.budget in sweeps else mean
        layers = [_number(loss.search), _number(loss.seed), _number(loss.validation)]
        flattered = f"{-loss.curse:+.4f}" if loss.fresh_seeds else "-"
        counts = f"{loss.random_trials} of {entry.complete}"
        naive = link(f"{loss.naive_best:.4f}", entry.run_id)
        rows.append([loss.budget, naive, _number(loss.expected_best), fresh, flattered, *layers, counts])
    return Table(
        caption="Uncertainty: three estimates of the loss, and the standard error from each layer of noise",
        columns=[
            "budget",
            "naive best",
            f"best of {n}",
            "fresh seeds",
            "flattered by",
            "search",
            "seed",
            "days",
            "random trials",
        ],
        rows=rows,
        notes=["Each layer alone; none contains another. The naive best was chosen for its loss, which flatters it."],
    )


def _verdict_table(verdict: Verdict) -> Table:
    def interval(low: float, high: float) -> str:
        return f"[{low:+.2%}, {high:+.2%}]"

    rows = [
        ["slope, change of the loss per tenfold size", f"{verdict.slope:+.2%}"],
        ["95% interval", interval(verdict.low, verdict.high)],
        [
            f"interval of the claim ({verdict.claim_level:.1%}), which must exclude zero",
            interval(verdict.claim_low, verdict.claim_high),
        ],
        [
            f"90% interval, inside ±{verdict.margin:.0%} for `equivalent`",
            interval(verdict.equivalence_low, verdict.equivalence_high),
        ],
        ["smallest slope found four times out of five", f"{verdict.detectable:.2%}"],
        ["source of the slope's noise", verdict.noise],
        ["verdict", verdict.claim],
    ]
    return Table(caption="The verdict's numbers", columns=["quantity", "value"], rows=rows)


def _standings_table(question: ReportQuestion, link: RunLink) -> Table:
    runs = {entry.budget: entry.run_id for entry in question.frontier.entries} | dict(question.frontier.baseline_runs)
    rows: list[list[Inline]] = [
        [
            BASELINE_TITLES.get(member.name, member.name),
            link(f"{member.loss:.4f}", runs[member.name]),
            p_value_text(member.p_value),
            "may be the best" if member.is_in else "is not the best",
        ]
        for member in sorted(question.standings, key=lambda member: member.loss)
    ]
    return Table(
        caption="Models that may be the best: model confidence set (Hansen, Lunde & Nason 2011), 95%",
        columns=["model", "val_loss", "p", "verdict"],
        rows=rows,
    )


def _forecast_table(question: ReportQuestion, link: RunLink) -> Table:
    rows: list[list[Inline]] = []
    for entry in question.forecasts:
        forecast, score = entry.forecast, entry.score
        observed: Inline = link(f"{entry.observed:.4f}", entry.observed_run_id) if entry.observed is not None else "-"
        result = MEANINGS[entry.state]
        if score:
            result = f"{'inside' if score.inside else 'outside'} its interval, error {score.signed_error:+.2%}"
        interval = f"{forecast.loss:.4f} [{forecast.low:.4f}, {forecast.high:.4f}]"
        rows.append([entry.budget, f"{entry.made:%Y-%m-%d %H:%M}", link(interval, entry.run_id), observed, result])
    return Table(
        caption="Forecasts of the lowest loss, registered before the sweep existed",
        columns=["budget", "made (UTC)", "forecast, 95%", "observed", "result"],
        rows=rows,
    )


def _number(value: float) -> str:
    return f"{value:.4f}" if value == value else "-"
