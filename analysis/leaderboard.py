"""`make leaderboard`: the best architecture per budget and horizon, and which results are inside the noise."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import LeaderboardOptions

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from analysis.results.frontier import BudgetResult, Frontier
    from research.tracking.store import Store


VERSUS = "vs X: 1 - loss / loss of X on the same days, negative where X is better; ~ inside the noise (95%, 60-day blocks)."


def main(options: LeaderboardOptions) -> None:
    """Print one table per question."""
    from analysis import adopted
    from analysis import uncertainty_table as sure_table
    from research.cli.console import console
    from research.cli.next_steps import print_next
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store, must_exist=True)
    earlier = adopted.studies(store, options.experiment) if options.adopted else []
    found = _frontiers(store, options.experiment, needed=not earlier)
    for frontier in found:
        screen.print(table_of(frontier))
        screen.print(sure_table.table_of(frontier))
        for line in [VERSUS, *findings(frontier), *sure_table.findings(frontier)]:
            screen.print(line, soft_wrap=True, highlight=False)
        screen.print()
    for line in sure_table.LEGEND if found else ():
        screen.print(line, soft_wrap=True, highlight=False)
    if options.figures:
        screen.print(f"figures and their numbers in {_draw(store, found)}", soft_wrap=True, highlight=False)
    if options.adopted:
        adopted.show(earlier, screen)
    further = ("make scaling", "make effects", "make compare", "make ui", "make sweep BUDGET=<another size>")
    print_next(screen, options.store, *further)


def _frontiers(store: Store, experiment: str | None, *, needed: bool) -> list[Frontier]:
    """What this platform found itself; there may be nothing where adopted results are there to show."""
    from analysis.results.frontier import frontiers
    from research.errors import InputError

    try:
        return frontiers(store, experiment)
    except InputError:
        if needed:
            raise
        return []


def table_of(frontier: Frontier) -> Table:
    """Budgets by counted size, then the baselines."""
    from research.cli.console import plain_table
    from research.tracking.schema import baseline_titles

    title = (
        f"{frontier.experiment}, horizon {frontier.horizon}, {frontier.features}, context {frontier.context_length}, "
        f"study {frontier.study[:6]}: {frontier.n_train_windows:,} training windows, {frontier.n_days:,} validation days, "
        f"base-rate loss {frontier.base_rate_loss:.4f}"
    )
    against = baseline_titles(frontier.baselines)
    # Skill is already measured against the training prior.
    rivals = [name for name in against if name != "prior"]
    headings = [f"vs {against[name]}" for name in rivals]
    table = plain_table(title, ["budget", "best architecture", "parameters", "val_loss", "skill", *headings, "AUC", "trials"])
    for entry in frontier.entries:
        gaps = [_skill_against(entry, name, frontier) for name in rivals]
        failed = f" + {entry.failed} failed" if entry.failed else ""
        table.add_row(
            entry.budget,
            entry.architecture + ("" if entry.alarm == "none" else f" ({entry.alarm})"),
            f"{entry.n_params:,}",
            f"{entry.val_loss:.4f}",
            f"{entry.skill:+.3f}",
            *gaps,
            f"{entry.auc:.3f} ± {entry.auc_se:.3f}",
            f"{entry.complete}{failed}",
        )
    for name in against:
        loss = frontier.baselines[name]
        skill = 1 - loss / frontier.base_rate_loss
        table.add_row("", against[name], "-", f"{loss:.4f}", f"{skill:+.3f}", *("" for _ in rivals), "", "", style="cyan")
    return table


def _skill_against(entry: BudgetResult, name: str, frontier: Frontier) -> str:
    skill = 1 - entry.val_loss / frontier.baselines[name]
    return f"{skill:+.3f}{'~' if entry.against[name].inside_noise else ' '}"


def findings(frontier: Frontier) -> list[str]:
    """Sentences that say what the table supports and what is inside the noise."""
    lines = [_standing(entry, frontier) for entry in frontier.entries]
    counts = {entry.budget: entry.complete for entry in frontier.entries}
    if len(set(counts.values())) > 1:
        told = ", ".join(f"{budget} {count}" for budget, count in counts.items())
        lines.append(f"Trials differ between budgets ({told}): the best of more trials looks better by chance alone.")
    lines.append("The best trial was chosen on these days, which flatters it; only the unopened test days can tell.")
    return lines


def _standing(entry: BudgetResult, frontier: Frontier) -> str:
    from research.tracking.schema import baseline_titles

    rivals = {name: loss for name, loss in frontier.baselines.items() if name in entry.against}
    if not rivals:
        return f"{entry.budget}: no baseline on the same rows."
    strongest = min(rivals, key=lambda name: rivals[name])
    gap = entry.against[strongest]
    side = "better than" if gap.mean < 0 else "worse than"
    sure = "inside the noise" if gap.inside_noise else "outside the noise"
    return (
        f"{entry.budget}: {abs(gap.mean):.4f} nats {side} the strongest baseline, {baseline_titles(rivals)[strongest]}, "
        f"interval [{gap.low:+.4f}, {gap.high:+.4f}]: {sure}."
    )


def _draw(store: Store, found: list[Frontier]) -> Path:
    """Tuning, learning and calibration of each question."""
    from analysis.figures import search as figures_search
    from analysis.figures import style as figures
    from analysis.results import run_curves as curves

    folder = store.root / "reports"
    for one in found:
        title = f"{one.experiment}, horizon {one.horizon}"
        tuning, learning = curves.tuning_curves(one), curves.learning_curves(store, one)
        calibration = curves.calibration_curves(store, one)
        drawn = {
            "learning": (figures_search.learning(learning, one.base_rate_loss, f"{title}: best of each budget"), learning),
            "calibration": (figures_search.reliability(calibration, f"{title}: calibration"), calibration),
        }
        if len(tuning):
            drawn["tuning"] = (figures_search.tuning(tuning, one.baselines, title), tuning)
        for name, (figure, numbers) in drawn.items():
            figures.save(figure, figures.report_path(folder, name, one), numbers)
    return folder


if __name__ == "__main__":
    from research.cli.run import run

    run(main, LeaderboardOptions)
