"""`make screenshots`: the pictures of docs/ui.md, taken in a real browser over a small study in a store of its own."""

from __future__ import annotations

import io
import os
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from PIL import Image

from pipelines.sweep.mlflow_views import TRAINING, TRIALS_KEY, run_page, sweep_page
from research.tracking import query, schema
from research.tracking.registry import holder_of
from research.tracking.store import Store, open_store
from tests.support.browser import Browser, browser, chromium, pages_over

PICTURES = Path(__file__).parents[1] / "docs" / "ui"
SWEEP = ("--trials", "8", "--epochs", "6", "--replicates", "1", "--device", "cpu")
BUDGETS = ("2K", "6K")
INTO_USE = (("train", "--seeds", "2"), ("evaluate",), ("promote", "--force"))
COLOURS = 192
DRAWS_FOR = 2.0
"""Seconds that charts take after their titles are there."""


@dataclass(frozen=True, kw_only=True)
class Shot:
    """One picture: its file's name, the page, what the page says when it is ready, and what is clicked then."""

    name: str
    page: str
    says: tuple[str, ...]
    click: str = ""
    """CSS selector."""


def shots(store: Store) -> list[Shot]:
    """The pages of a store's newest finished sweep, its best trial and its registered model."""
    names = query.experiments(store)
    finished = [run for run in query.runs_of_kind(store, list(names), ["sweep"]) if schema.BEST_RUN in run.tags]
    if not finished:
        sys.exit(f"error: STORE={store.root}: there is no finished sweep; run `make sweep`.")
    parent = finished[-1]
    experiment, best = parent.experiment_id, parent.tags[schema.BEST_RUN]
    expand_notes = "[data-component-id$='metadata_editor.expand_button']"
    runs, trial = f"#/experiments/{experiment}/runs", f"#/experiments/{experiment}/runs/{best}"
    model = f"{names[experiment]}-{parent.name}"
    charts = sweep_page(experiment, parent.run_id, charts=True)
    return [
        Shot(name="experiment", page=f"{runs}?{TRAINING}", says=(parent.name,), click=expand_notes),
        Shot(name="trials", page=sweep_page(experiment, parent.run_id), says=("val_loss", "d_model", "0000 ")),
        Shot(name="charts", page=charts, says=("Parallel Coordinates", "0000 ")),
        Shot(name="all-trials", page=f"{runs}?viewStateShareKey={TRIALS_KEY}&{TRAINING}", says=("budget", "0000 ")),
        Shot(
            name="sweep",
            page=run_page(experiment, parent.run_id),
            says=("best trial",),
            click="[aria-label='Expand description']",
        ),
        Shot(name="curves", page=f"{trial}/model-metrics?{TRAINING}", says=("gradient_norm",)),
        Shot(name="figures", page=f"{trial}/artifacts/reliability.png?{TRAINING}", says=("reliability.png",)),
        Shot(name="model", page=f"#/models/{model}?{TRAINING}", says=("Version 1", "make serve")),
        *champion_shot(store, model),
    ]


def champion_shot(store: Store, model: str) -> list[Shot]:
    """The page of the version in use, where there is one."""
    held = holder_of(store, model, schema.CHAMPION)
    if held is None:
        return []
    page = f"#/models/{model}/versions/{held.version}?{TRAINING}"
    return [Shot(name="champion", page=page, says=("clean commit",))]


def take(page: Browser, address: str, shot: Shot) -> None:
    """Open the page and write its picture."""
    page.open(f"{address}/{shot.page}", *shot.says)
    if shot.click:
        page.click(shot.click)
    time.sleep(DRAWS_FOR)
    # A page has few colours; a palette of them takes a third of the bytes.
    Image.open(io.BytesIO(page.picture())).convert("RGB").quantize(COLOURS).save(PICTURES / f"{shot.name}.png", optimize=True)


@contextmanager
def small_study() -> Iterator[Path]:
    """A store with a sweep of each budget, the best of the last one trained, tested and taken into use."""
    with TemporaryDirectory(prefix="tapescale-screenshots-") as folder:
        root = Path(folder) / "mlruns"
        environment = {**os.environ, "MLFLOW_TRACKING_URI": ""}
        for budget in BUDGETS:
            command = [sys.executable, "-m", "tapescale", "sweep", "--store", str(root), "--budget", budget, *SWEEP]
            subprocess.run(command, check=True, env=environment)
        for verb, *flags in INTO_USE:
            command = [sys.executable, "-m", "tapescale", verb, "--store", str(root), "--budget", BUDGETS[-1], *flags]
            subprocess.run(command, check=True, env=environment)
        yield root


def main(root: Path) -> None:
    """Take every picture over the store at `root`."""
    PICTURES.mkdir(exist_ok=True)
    with pages_over(root) as address, browser() as page:
        for shot in shots(open_store(root, must_exist=True)):
            take(page, address, shot)
            print(PICTURES / f"{shot.name}.png")


if __name__ == "__main__":
    if chromium() is None:
        sys.exit("error: there is no Chromium; install it (Debian: apt-get install chromium).")
    if len(sys.argv) > 1:
        main(Path(sys.argv[1]))
    else:
        with small_study() as made:
            main(made)
