"""Data, grid and device of a sweep. Wrong options are refused here, before the sweep has a run."""

from __future__ import annotations

import shutil
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from rich.console import Console

from pipelines.data.load_task import load_task
from pipelines.executors.device_groups import devices_to_share
from pipelines.executors.ray_tasks import connect
from pipelines.options import SweepOptions
from pipelines.sweep.grid import architectures_of
from pipelines.sweep.messages import print_left_out, print_opening, print_short_disk
from pipelines.sweep.search_space import SearchSpace
from pipelines.trial.context import SweepContext
from pipelines.trial.optimizer_choice import fitting_architectures, optimizer_for
from pipelines.trial.task_record import task_tags
from research.errors import InputError, require
from research.fingerprint import fingerprint
from research.models.budget import Budget
from research.runtime import DEFAULT_THREADS, Runtime, available_memory, choose_device, hardware
from research.spec import TRANSFORMER, ArchitectureSpec, OptimizerName
from research.task.task import Task
from research.tracking import schema
from research.tracking.provenance import Provenance, provenance
from research.tracking.store import Store, open_store
from research.training.memory_estimate import checkpoint_bytes, peak_memory

LARGEST_SEED = 2**32
"""Bound of NumPy's seeds, which samplers use."""


@dataclass(frozen=True, kw_only=True)
class SweepSetup:
    """Everything that a sweep knows before it has a parent run."""

    store: Store
    experiment_id: str
    task: Task
    budget: Budget
    optimizer: OptimizerName
    provenance: Provenance
    tags: dict[str, str]
    checkpoints: Path
    runtime: Runtime
    architectures: list[ArchitectureSpec]
    """Architectures of the budget that this machine can train."""

    def context(self, parent_id: str) -> SweepContext:
        """Return the context of the sweep with this parent run."""
        return SweepContext(
            store=self.store,
            experiment_id=self.experiment_id,
            parent_id=parent_id,
            task=self.task,
            budget=self.budget,
            optimizer=self.optimizer,
            provenance=self.provenance,
            tags=self.tags,
            checkpoints=self.checkpoints,
        )


def prepare(options: SweepOptions, console: Console) -> SweepSetup:
    """Load the task, choose device, optimizer and architectures, and print the sweep's opening."""
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
    fitting = architectures if options.ray else _fitting_shapes(architectures, options, runtime, optimizer)
    setup = SweepSetup(
        store=store,
        experiment_id=store.experiment(task.experiment),
        task=task,
        budget=budget,
        optimizer=optimizer,
        provenance=record,
        tags={**task_tags(task), **record.tags("tapescale sweep"), **identity},
        checkpoints=(options.checkpoints or store.root / "checkpoints").resolve(),
        runtime=runtime,
        architectures=fitting,
    )
    print_opening(task, budget, fitting, device, console)
    if len(fitting) < len(architectures):
        print_left_out(len(architectures) - len(fitting), free, devices, console)
    _check_disk(setup, console)
    return setup


def _check_disk(setup: SweepSetup, console: Console) -> None:
    """Create the checkpoint folder and warn if it has no room for an old and a new checkpoint side by side."""
    try:
        setup.checkpoints.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise InputError(f"CHECKPOINTS={setup.checkpoints}: {error.strerror}; give a folder.") from error
    free = shutil.disk_usage(setup.checkpoints).free
    needed = 2 * max(checkpoint_bytes(a, setup.optimizer) for a in setup.architectures)
    if free < needed:
        print_short_disk(needed, free, console)


def require_numbers(options: SweepOptions) -> None:
    """Raise `InputError` if a count or share is out of range."""
    for name in ("trials", "epochs", "patience", "attempts", "replicate_best"):
        require(getattr(options, name) >= 1, name.upper(), getattr(options, name), "give 1 or more.")
    require(options.add_trials is None or options.add_trials >= 1, "TRIALS", f"+{options.add_trials}", "give +1 or more.")
    require(options.replicates >= 0, "REPLICATES", options.replicates, "give 0 or more seeds.")
    require(0 <= options.random_share <= 1, "random_share", options.random_share, "give a share between 0 and 1.")
    SearchSpace.of_options(options)
    require(0 <= options.seed < LARGEST_SEED, "SEED", options.seed, f"give a whole number from 0 to {LARGEST_SEED - 1}.")
    require(options.base_width >= 0, "WIDTH_TRANSFER", options.base_width, "give a width such as 64, or 0 for none.")
    require(options.workers is None or options.workers >= 1, "WORKERS", options.workers, "give 1 or more.")


def sweep_fingerprint(options: SweepOptions, task: Task, budget: Budget, optimizer: OptimizerName) -> str:
    """Return the identity of a sweep. The grid, the ranges and the number of trials may grow and are no part of it."""
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
    """Return the free bytes on each device that may share a trial, and the number of those devices."""
    shared = devices_to_share(options, device)
    return min(available_memory(device) for device in shared), len(shared)


def _fitting_shapes(
    architectures: list[ArchitectureSpec], options: SweepOptions, runtime: Runtime, optimizer: OptimizerName
) -> list[ArchitectureSpec]:
    """Return the architectures that this machine can train. Raises `InputError` if there are none."""
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
