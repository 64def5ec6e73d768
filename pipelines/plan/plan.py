"""`make plan`: cost of a sweep at one budget on this machine.

Allocates only single blocks for a benchmark; opens and creates no store.
"""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

from pipelines.options import SweepOptions
from pipelines.plan.options import PlanOptions

if TYPE_CHECKING:
    import torch

    from pipelines.plan.costs import PlanMachine
    from research.task.windows import WindowedData


def main(options: PlanOptions) -> None:
    """Print the plan."""
    from research.errors import require
    from research.models.budget import Budget

    # Checked before the heavy imports, so that a typo fails at once.
    budget = Budget.parse(options.budget)
    for name in ("trials", "epochs"):
        require(getattr(options, name) >= 1, name.upper(), getattr(options, name), "give 1 or more.")

    from pipelines.plan.costs import Workload, plan_rows, totals
    from pipelines.plan.table import print_opening, print_plan
    from pipelines.sweep.grid import architectures_of
    from pipelines.sweep.search_space import SearchSpace
    from pipelines.trial.optimizer_choice import optimizer_for
    from research.cli.console import console
    from research.runtime import DEFAULT_THREADS, Runtime, choose_device
    from research.training.time_estimate import TimeEstimator

    device = choose_device(options.device)
    threads = DEFAULT_THREADS if options.threads is None else options.threads
    Runtime(device=device, threads=threads, micro_batch=options.micro_batch).apply()
    prepared = data_of(options)
    split = prepared.split
    machine = machine_of(device, options)
    architectures = architectures_of(options, prepared, budget)
    batch_sizes = SearchSpace.of_options(options).batch_size
    work = Workload(
        windows=(len(split.train), len(split.validation)),
        epochs=options.epochs,
        batch_sizes=batch_sizes,
        micro_batch=options.micro_batch,
        optimizer=optimizer_for(options.optimizer, architectures, batch_sizes, device, machine.memory, devices=machine.devices),
    )
    screen = console()
    print_opening(budget, architectures, work, machine, screen)
    rows = plan_rows(architectures, work, machine, TimeEstimator(device))
    print_plan(rows, totals(rows, options.trials), options, screen)


def data_of(options: SweepOptions) -> WindowedData:
    """Return the features and the split that the options describe, without a store."""
    from research.data.data_argument import bars_of
    from research.data.snapshots import Snapshot
    from research.task.build import assemble

    data = bars_of(options.data, options.store / "snapshots")
    bars, source = (data.bars, data.manifest.source) if isinstance(data, Snapshot) else (data, options.data)
    return assemble(options, bars, digest="", source=source).prepared


def machine_of(device: torch.device, options: SweepOptions) -> PlanMachine:
    """Return the free memory and disk of this machine."""
    import torch

    from pipelines.executors.device_groups import devices_to_share
    from pipelines.plan.costs import PlanMachine
    from research.runtime import available_memory

    folder = (options.checkpoints or options.store).resolve()
    existing = next(path for path in (folder, *folder.parents) if path.exists())
    shared = devices_to_share(options, device)
    return PlanMachine(
        device=device,
        devices=len(shared),
        memory=min(available_memory(accelerator) for accelerator in shared),
        host_memory=available_memory(torch.device("cpu")),
        disk=shutil.disk_usage(existing).free,
    )
