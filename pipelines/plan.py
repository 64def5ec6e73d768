"""`make plan`: what a sweep at one budget would cost on this machine, before anything is paid for it.

Nothing but single blocks for a benchmark is allocated, and no store is opened or made.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pipelines.options import SweepOptions

if TYPE_CHECKING:
    import torch

    from pipelines.plan_rows import Machine
    from research.features.feature_sets import FeatureMatrix
    from research.models.architectures import Budget
    from research.spec import ArchitectureSpec
    from research.windows.splits import Split


@dataclass(frozen=True, kw_only=True)
class PlanOptions(SweepOptions):
    """Print what a sweep would take: sizes, FLOPs, memory, hours and disk. Takes the same flags as a sweep.

    Example: python -m pipelines.plan --budget 2B
    """

    all: bool = False
    """One line per architecture instead of one per width and depth."""


def main(options: PlanOptions) -> None:
    """Print the plan."""
    from research.models.architectures import Budget
    from research.spec import require

    # Told before the heavy imports, so that a typo is answered at once.
    budget = Budget.parse(options.budget)
    for name in ("trials", "epochs"):
        require(getattr(options, name) >= 1, name.upper(), getattr(options, name), "give 1 or more.")

    from pipelines.plan_rows import Workload, plan_rows, totals
    from pipelines.plan_table import console, print_opening, print_plan
    from pipelines.search import SearchSpace
    from research.runtime import DEFAULT_THREADS, Runtime, choose_device
    from research.training.speed import Speed

    device = choose_device(options.device)
    threads = DEFAULT_THREADS if options.threads is None else options.threads
    Runtime(device=device, threads=threads, micro_batch=options.micro_batch).apply()
    matrix, split = data_of(options)
    work = Workload(
        windows=(len(split.train), len(split.validation)),
        epochs=options.epochs,
        batch_sizes=SearchSpace.asked_for(options).batch_size,
        micro_batch=options.micro_batch,
    )
    machine = machine_of(device, options)
    architectures = grid_of(options, budget, len(matrix.columns))
    screen = console()
    print_opening(budget, architectures, work, machine, screen)
    rows = plan_rows(architectures, work, machine, Speed(device))
    print_plan(rows, totals(rows, options.trials), options, screen)


def data_of(options: SweepOptions) -> tuple[FeatureMatrix, Split]:
    """Features and split of the study that the options name, read without a store."""
    from research.data.snapshots import load_snapshot
    from research.data.sources import SOURCES
    from research.features.feature_sets import build, feature_set_named
    from research.spec import SplitSpec, TargetSpec, require
    from research.windows.splits import holdout
    from research.windows.targets import threshold_target

    feature_set = feature_set_named(options.features)
    target_spec = TargetSpec(horizon=options.horizon, threshold=options.threshold, touch=options.touch)
    split_spec = SplitSpec(
        train_end=options.train_end, validation_end=options.validation_end, test_end=options.test_end, embargo=options.embargo
    )
    source = SOURCES.get(options.data)
    known = source().bars if source else load_snapshot(options.data, options.store / "snapshots").bars
    require(options.symbol in known, "SYMBOL", options.symbol, f"{options.data} has {', '.join(sorted(known))}.")
    bars = known[options.symbol]
    matrix = build(feature_set, bars)
    return matrix, holdout(threshold_target(bars, target_spec), split_spec, matrix.first_row, options.context)


def grid_of(options: SweepOptions, budget: Budget, n_features: int) -> list[ArchitectureSpec]:
    """The architectures that a sweep with these options would try, deepest last within a width."""
    from research.models.architectures import architectures_for, focused, require_used
    from research.spec import ArchitectureSpec

    template = ArchitectureSpec(
        d_model=1,
        n_layers=1,
        n_heads=1,
        d_ff=1,
        context_length=options.context,
        n_features=n_features,
        window_norm=options.window_norm,
    )
    grid = focused(budget.grid, widths=options.widths, depths=options.layers, heads=options.heads)
    architectures = architectures_for(budget, template, grid)
    require_used(grid, budget.grid, architectures)
    return architectures


def machine_of(device: torch.device, options: SweepOptions) -> Machine:
    """What is free on this machine."""
    import torch

    from pipelines.plan_rows import Machine
    from research.runtime import available_memory

    folder = (options.checkpoints or options.store).resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    return Machine(
        device=device,
        memory=available_memory(device),
        host_memory=available_memory(torch.device("cpu")),
        disk=shutil.disk_usage(existing).free,
    )


if __name__ == "__main__":
    from research.cli import run

    run(main, PlanOptions)
