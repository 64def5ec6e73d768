"""`make study`: sweeps at every budget and horizon with equal numbers of trials, in one command."""

from __future__ import annotations

from dataclasses import dataclass

from pipelines.options import SweepOptions

FAILED = 1
"""Exit code if a sweep failed and the others continued."""


@dataclass(frozen=True, kw_only=True)
class StudyOptions(SweepOptions):
    """Run a sweep at every budget and every horizon, cheapest first; the same command continues a stopped study.

    Takes the same flags as a sweep.

    examples:
      make study BUDGETS=2K..2M/half HORIZONS=1,3,5 TRIALS=12
      make study BUDGETS=20K,200K HORIZONS=1 TRIALS=+6
      tapescale study --budgets 2K..20K/half --horizons 1 3 5 --trials 12
    """

    budgets: str = "2K..20K/half"
    """A list (20K,200K,2M), a range in decades (2K..2M) or half decades (2K..2M/half), or a mix of them."""
    horizons: tuple[int, ...] = (1, 3, 5)
    """Sessions ahead; every budget has a separate sweep for each."""
    windows: str = ""
    """Numbers of training windows, such as 1K,4K,16K; every budget has a sweep for each. All windows if not given."""
    budget: str = ""
    """Not for a study; give --budgets."""
    horizon: int = 0
    """Not for a study; give --horizons."""


def main(options: StudyOptions) -> None:
    """Run a study from the command line."""
    from pipelines.study.budget_list import parse_budgets, parse_windows, study_sweeps
    from research.errors import require

    # Checked before the heavy imports, so that a typo fails at once.
    require(not options.budget, "BUDGET", options.budget, f"a study takes a list; give BUDGETS={options.budget}.")
    require(not options.horizon, "HORIZON", options.horizon, f"a study takes a list; give HORIZONS={options.horizon}.")
    require(options.trials >= 1, "TRIALS", options.trials, "give 1 or more.")
    sweeps = study_sweeps(parse_budgets(options.budgets), options.horizons, parse_windows(options.windows))

    from pipelines.study.driver import run_study
    from research.cli.console import console

    # A sweep's table needs about a hundred columns.
    if run_study(options, sweeps, console(width=110)).failed:
        raise SystemExit(FAILED)
