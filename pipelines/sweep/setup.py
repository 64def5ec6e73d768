"""Data, grid and device of a sweep. Everything that can be refused is refused here, before the sweep has a run."""

from __future__ import annotations

import shutil
from dataclasses import replace

import torch
from rich.console import Console

from pipelines.data.load_task import load_task
from pipelines.executors.device_groups import devices_to_share
from pipelines.executors.ray_tasks import connect
from pipelines.options import SweepOptions
from pipelines.sweep import messages as summary
from pipelines.sweep.grid import architectures_of
from pipelines.sweep.search_space import SearchSpace
from pipelines.trial.context import Context
from pipelines.trial.optimizer_choice import fitting_architectures, optimizer_for
from pipelines.trial.task_record import task_tags
from research.errors import InputError, require
from research.fingerprint import fingerprint
from research.models.budget import Budget
from research.runtime import DEFAULT_THREADS, Runtime, available_memory, choose_device, hardware
from research.spec import TRANSFORMER, ArchitectureSpec, OptimizerName
from research.task.task import Task
from research.tracking import schema
from research.tracking.provenance import provenance
from research.tracking.store import open_store
from research.training.memory_estimate import checkpoint_bytes, peak_memory

LARGEST_SEED = 2**32
"""NumPy's generators, which samplers use, take none that is larger."""


def prepare(options: SweepOptions, console: Console) -> tuple[Context, list[ArchitectureSpec]]:
    """The context of a sweep's runs and the architectures it may try."""
    budget = Budget.parse(options.budget)
    require_numbers(options)
    device = choose_device(options.device)
    threads = DEFAULT_THREADS if options.threads is None else options.threads
    runtime = Runtime(device=device, threads=threads, micro_batch=options.micro_batch)
    runtime.apply()
    store = open_store(options.store)
    if options.ray:
        connect(options.ray, store)
    task = replace(load_task(options, store), family=options.family)
    architectures = architectures_of(options, task.prepared, budget)
    free, devices = _room(options, device)
    optimizer = optimizer_for(options.optimizer, architectures, options.batch_sizes, device, free, devices=devices)
    record = provenance(hardware(device))
    identity = {schema.SWEEP_FINGERPRINT: sweep_fingerprint(options, task, budget, optimizer)}
    context = Context(
        store=store,
        experiment_id=store.experiment(task.experiment),
        task=task,
        budget=budget,
        optimizer=optimizer,
        runtime=runtime,
        provenance=record,
        tags={**task_tags(task), **record.tags("tapescale sweep"), **identity},
        checkpoints=(options.checkpoints or store.root / "checkpoints").resolve(),
    )
    fitting = architectures if options.ray else _fitting_shapes(architectures, options, runtime, optimizer)
    summary.print_opening(task, budget, fitting, device, console)
    if len(fitting) < len(architectures):
        summary.print_left_out(len(architectures) - len(fitting), free, devices, console)
    _look_at_the_disk(context, fitting, console)
    return context, fitting


def _look_at_the_disk(context: Context, architectures: list[ArchitectureSpec], console: Console) -> None:
    """A checkpoint is written beside the one it replaces; without room for both, a stopped trial starts again."""
    try:
        context.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise InputError(f"CHECKPOINTS={context.checkpoints}: {problem.strerror}; give a folder.") from problem
    free = shutil.disk_usage(context.checkpoints).free
    needed = 2 * max(checkpoint_bytes(a, context.optimizer) for a in architectures)
    if free < needed:
        summary.print_short_disk(needed, free, console)


def require_numbers(options: SweepOptions) -> None:
    """Refuse counts and shares that mean nothing."""
    for name in ("trials", "epochs", "patience", "attempts", "replicate_best"):
        require(getattr(options, name) >= 1, name.upper(), getattr(options, name), "give 1 or more.")
    require(options.add_trials is None or options.add_trials >= 1, "TRIALS", f"+{options.add_trials}", "give +1 or more.")
    require(options.replicates >= 0, "REPLICATES", options.replicates, "give 0 or more seeds.")
    require(0 <= options.random_share <= 1, "random_share", options.random_share, "give a share between 0 and 1.")
    SearchSpace.asked_for(options)
    require(0 <= options.seed < LARGEST_SEED, "SEED", options.seed, f"give a whole number from 0 to {LARGEST_SEED - 1}.")
    require(options.base_width >= 0, "WIDTH_TRANSFER", options.base_width, "give a width such as 64, or 0 for none.")
    require(options.workers is None or options.workers >= 1, "WORKERS", options.workers, "give 1 or more.")


def sweep_fingerprint(options: SweepOptions, task: Task, budget: Budget, optimizer: OptimizerName) -> str:
    """What makes two sweeps the same one; the grid, the ranges and the number of trials may grow."""
    identity = {
        "study": task.spec,
        "budget": budget,
        "context": options.context,
        "epochs": options.epochs,
        "patience": options.patience,
        "window_norm": options.window_norm,
        "symbol_embedding": options.symbol_embedding,
        "seed": options.seed,
        "base_width": options.base_width,
        "optimizer": optimizer,
        **({} if options.family == TRANSFORMER else {"family": options.family}),
    }
    return fingerprint(identity)


def _room(options: SweepOptions, device: torch.device) -> tuple[int, int]:
    """Bytes that are free on each of the devices that may share a trial, and how many those are."""
    shared = devices_to_share(options, device)
    return min(available_memory(one) for one in shared), len(shared)


def _fitting_shapes(
    architectures: list[ArchitectureSpec], options: SweepOptions, runtime: Runtime, optimizer: OptimizerName
) -> list[ArchitectureSpec]:
    """Those that this machine can train; trials on the others would be paid for nothing."""
    free, devices = _room(options, runtime.device)
    fitting = fitting_architectures(architectures, options.batch_sizes, runtime.device, free, optimizer, devices=devices)
    if not fitting:
        windows = max(options.batch_sizes) if optimizer == "adafactor" else 1
        least = min(peak_memory(a, windows, runtime.device, optimizer=optimizer) for a in architectures)
        where = f"on each of {devices} devices" if devices > 1 else "here"
        raise InputError(
            f"BUDGET={options.budget}: its smallest architecture needs {least / 1e9:.1f} GB with {optimizer} and "
            f"{free / 1e9:.1f} GB are free {where}; give a smaller BUDGET or another DEVICE (make plan shows all of them)."
        )
    return fitting
