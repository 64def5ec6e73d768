"""`make effects`: what depth, width and the other settings contribute, and where the best shape lies."""

from __future__ import annotations

from typing import TYPE_CHECKING

from analysis.options import EffectsOptions

if TYPE_CHECKING:
    from pathlib import Path

    from rich.table import Table

    from analysis.results.architecture import Effects, OptimumShift
    from analysis.results.horizon_transfer import HorizonTransfer
    from analysis.results.importance import Importance

REPORTS = "reports"
LEGEND = (
    "best depth / width: where a quadratic in its logarithm is lowest, over random trials only, in brackets where chance may "
    "have put it there; 95%: bootstrap over trials; p: permutation test that the ratio does not matter, Holm-adjusted over all "
    "curves shown.",
    "share: total Sobol index by permutation on held-out trials (random forest, 5 folds) ± standard error; ~ may be nothing "
    "(Holm over the settings). At a fixed size, depth and width determine each other: only both together show the shape.",
)


def main(options: EffectsOptions) -> None:
    """Print the tables of every question; write figures and their numbers."""
    from analysis.results.architecture import effects, optimum_shifts
    from analysis.results.frontier import frontiers
    from analysis.results.horizon_transfer import transfers
    from research.cli.console import console, print_line
    from research.cli.next_steps import print_next
    from research.tracking.store import open_store

    screen = console()
    store = open_store(options.store, must_exist=True)
    store_frontiers = frontiers(store, options.experiment)
    all_effects = effects(store_frontiers)
    for question in all_effects:
        screen.print(curve_table(question))
        if any(question.importances.values()):
            screen.print(importance_table(question))
        for line in effect_sentences(question):
            print_line(screen, line)
        screen.print()
    for line in (*LEGEND, *(shift_sentence(shift) for shift in optimum_shifts(all_effects))):
        print_line(screen, line)
    screen.print()
    rows = transfers(store, store_frontiers)
    if rows:
        screen.print(transfer_table(rows))
    for line in transfer_sentences(rows):
        print_line(screen, line)
    _draw(all_effects, store.root / REPORTS)
    print_line(screen, f"figures and their numbers: {store.root / REPORTS}")
    print_next(screen, options.store, "make compare", "make report")


def curve_table(effects: Effects) -> Table:
    """Return one row per budget: the best ratio of depth to width, its interval, p-value and verdict."""
    from analysis.results.shape_curve import LEVEL, ratio_label
    from research.cli.console import plain_table

    frontier = effects.frontier
    title = f"{frontier.experiment}, horizon {frontier.horizon}, study {frontier.study[:6]}: depth / width at fixed size"
    table = plain_table(title, ["budget", "random trials", "best depth / width", "95%", "p", "verdict"])
    for budget, curve in effects.curves.items():
        if curve is None:
            count = next(len(entry.random_losses) for entry in frontier.entries if entry.budget == budget)
            table.add_row(budget, f"{count}", "-", "-", "-", "too few random trials")
            continue
        p_value, best = effects.curve_p[budget], ratio_label(curve.best)
        matters = p_value < LEVEL
        if effects.best_is_known(budget):
            verdict = "a best ratio inside what was tried"
        else:
            verdict = "matters; best at the edge of what was tried" if matters else "no evidence that it matters"
        interval = f"{ratio_label(curve.best_low)} .. {ratio_label(curve.best_high)}"
        table.add_row(budget, f"{curve.trials}", best if matters else f"({best})", interval, f"{p_value:.3f}", verdict)
    return table


def importance_table(effects: Effects) -> Table:
    """Return settings down, budgets across; the last row is the share of the variance that the forest explains."""
    from analysis.results.importance import SETTINGS
    from research.cli.console import plain_table

    columns = ["setting", *effects.importances]
    table = plain_table("share of the variance of val_loss that a setting is part of", columns, left=["setting"])
    for setting in SETTINGS:
        table.add_row(setting, *(_share(importance, setting) for importance in effects.importances.values()))
    explained = (f"{i.r2:+.2f} of {i.trials} trials" if i else "-" for i in effects.importances.values())
    table.add_row("R² on held-out trials", *explained, style="cyan")
    return table


def _share(importance: Importance | None, setting: str) -> str:
    if importance is None or not importance.explains:
        return "-"
    for contribution in importance.contributions:
        if contribution.setting == setting:
            return f"{contribution.share:.2f} ± {contribution.error:.2f}{'~' if contribution.is_noise else ' '}"
    return "not varied"


def effect_sentences(effects: Effects) -> list[str]:
    """Return where nothing can be ranked, and what would change that."""
    from analysis.results.importance import FEWEST_TRIALS
    from analysis.results.shape_curve import FEWEST_RATIOS
    from analysis.results.shape_curve import FEWEST_TRIALS as FEWEST_RANDOM

    lines = []
    few = ", ".join(budget for budget, importance in effects.importances.items() if importance is None)
    if few:
        lines.append(f"{few}: fewer than {FEWEST_TRIALS} trials that differ, no ranking; continue with TRIALS=+20.")
    for budget, importance in effects.importances.items():
        if importance and not importance.explains:
            lines.append(
                f"{budget}: a forest explains nothing of trials it was not fitted to (R² {importance.r2:+.2f}, "
                f"p {importance.p_value:.2f}): a ranking would be noise."
            )
    short = [budget for budget, curve in effects.curves.items() if curve is None]
    if short:
        need = f"{FEWEST_RANDOM} random trials of {FEWEST_RATIOS} ratios"
        lines.append(f"{', '.join(short)}: a curve needs {need}; two of five trials are random, continue with TRIALS=+20.")
    return lines


def shift_sentence(shift: OptimumShift) -> str:
    """Return one sentence on whether the best ratio moves along budgets or horizons."""
    from analysis.results.shape_curve import ratio_label

    ratios = ", ".join(f"{value} {ratio_label(ratio)}" for value, ratio in shift.ratios.items())
    verdict = "it moves" if shift.p_value < 0.05 else "no evidence that it moves"
    return f"best depth / width along the {shift.along}, {shift.at}: {ratios}; {verdict} (Cochran's Q, p {shift.p_value:.3f})."


def transfer_table(rows: list[HorizonTransfer]) -> Table:
    """Return one row per budget and ordered pair of horizons."""
    from research.cli.console import plain_table

    columns = ["budget", "chosen at", "used at", "in common", "rank correlation", "regret (nats)", "95%, validation days"]
    table = plain_table("does one horizon's ranking serve another?", columns)
    for transfer in rows:
        regret = transfer.regret
        table.add_row(
            transfer.budget,
            f"h{transfer.chosen_at}",
            f"h{transfer.used_at}",
            f"{transfer.shared} {transfer.matched_by}s",
            f"{transfer.correlation:+.2f} [{transfer.low:+.2f}, {transfer.high:+.2f}]",
            f"{regret.mean:+.4f}",
            f"[{regret.low:+.4f}, {regret.high:+.4f}]{'~' if regret.inside_noise else ' '}",
        )
    return table


def transfer_sentences(rows: list[HorizonTransfer]) -> list[str]:
    """Return how to read the transfer table or, if it is empty, how to fill it."""
    if not rows:
        return [
            "transfer between horizons: fewer than five architectures were tried at two of them; "
            "make study HORIZONS=1,3 TRIALS=12."
        ]
    return [
        "regret: daily loss of the first horizon's best less that of the horizon's own best, which was chosen on these days: "
        "that makes the regret look larger. Configurations include the learning rate: a bad one is bad at every horizon."
    ]


def _draw(all_effects: list[Effects], folder: Path) -> None:
    import pandas as pd

    from analysis.figures import shape, style

    for effects in all_effects:
        frontier = effects.frontier
        title = f"{frontier.experiment}, horizon {frontier.horizon}"
        curves = {budget: curve.curve if curve else None for budget, curve in effects.curves.items()}
        figure = shape.ratio_curves(frontier.trials, curves, f"{title}: loss against depth / width at fixed size")
        style.save(figure, style.report_path(folder, "shape", frontier), effects.points())
        cells = {budget: effects.heat_map(budget) for budget in curves}
        numbers = pd.concat([table.assign(budget=budget) for budget, table in cells.items()])
        figure = shape.heat_maps(cells, f"{title}: median val_loss, and how many trials")
        style.save(figure, style.report_path(folder, "depth-width", frontier), numbers)
