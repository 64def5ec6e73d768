"""What a person sees: MLflow's pages over a finished sweep, opened in a real browser through the links that we print."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from urllib.error import HTTPError
from urllib.parse import quote
from urllib.request import Request, urlopen

import pytest
from rich.console import Console

from pipelines.serving.ui import UI_PORT
from pipelines.sweep.driver import run_sweep
from pipelines.sweep.mlflow_views import TRAINING, run_page, sweep_link
from pipelines.sweep.state import Sweep
from research.tracking import schema
from tests.support.browser import Browser, browser, chromium, pages_over
from tests.support.small_sweeps import children_of, copy_of, options

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(chromium() is None, reason="there is no Chromium; install it (Debian: apt-get install chromium)"),
]
MODEL = "sp500-threshold-1pct-2K-h1"
IMAGE_IS_DRAWN = "[...document.images].some(image => image.complete && image.naturalWidth > 300)"


@pytest.fixture(scope="module")
def root(migrated_store: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return copy_of(migrated_store, tmp_path_factory.mktemp("browser"))


@pytest.fixture(scope="module")
def sweep(root: Path) -> Sweep:
    """A whole one: baselines, figures, a replicate, a registered model."""
    return run_sweep(options(root, trials=3, epochs=2, replicates=1), Console(quiet=True))


@pytest.fixture(scope="module")
def pages(sweep: Sweep, root: Path) -> Iterator[str]:
    with pages_over(root) as address:
        yield address


@pytest.fixture(scope="module")
def page(pages: str) -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def printed_link(sweep: Sweep, pages: str, *, charts: bool = False) -> str:
    """The link that a sweep prints, at this server's port."""
    link = sweep_link(sweep.context.store, sweep.context.experiment_id, sweep.log.run_id, charts=charts)
    return link.replace(f"http://127.0.0.1:{UI_PORT}", pages)


def names_in_order(page: Browser) -> list[str]:
    """Names of the table's rows, as they stand from top to bottom."""
    rows = "[...document.querySelectorAll('.ag-center-cols-container [role=row], .ag-pinned-left-cols-container [role=row]')]"
    top = "row => Number(row.getAttribute('row-index'))"
    link = "row.querySelector('[col-id=\"attributes.`Run Name`\"] a')"
    named = f"{rows}.filter(row => {link}).sort((a, b) => ({top})(a) - ({top})(b)).map(row => {link}.innerText.trim())"
    return [str(name) for name in page.value(named)]


def best_trial(sweep: Sweep) -> str:
    assert sweep.best is not None
    return sweep.best.run_id


def test_pages_answer_this_machine_only(pages: str) -> None:
    listing = f"{pages}/ajax-api/2.0/mlflow/experiments/search?max_results=5"
    with urlopen(listing, timeout=30) as answer:
        assert answer.status == 200
    for header in ({"Host": "rebound.example"}, {"Host": "rebound.example:5000"}):
        with pytest.raises(HTTPError, match="403"):
            urlopen(Request(listing, headers=header), timeout=30)
    create = f"{pages}/ajax-api/2.0/mlflow/experiments/create"
    foreign = {"Origin": "http://rebound.example", "Content-Type": "application/json"}
    with pytest.raises(HTTPError, match="403"):
        urlopen(Request(create, b'{"name": "planted"}', foreign), timeout=30)


def test_an_experiment_shows_its_sweeps_and_a_click_their_children(page: Browser, pages: str, sweep: Sweep) -> None:
    page.open(f"{pages}/#/experiments/{sweep.context.experiment_id}?{TRAINING}", sweep.title, "does the high touch +1%")
    assert names_in_order(page) == [sweep.title]
    page.click("[role=row] [col-id='attributes.`Run Name`'] button")
    children = children_of(sweep)
    page.wait_for(*(run.name for run in children))
    assert names_in_order(page)[0] == sweep.title
    assert sorted(names_in_order(page)[1:]) == sorted(run.name for run in children)


def test_the_printed_link_shows_the_trials_best_first_with_their_numbers(page: Browser, pages: str, sweep: Sweep) -> None:
    page.open(printed_link(sweep, pages), "val_loss", "val_skill", "n_params", "d_model", "learning_rate")
    ranked = sorted(children_of(sweep), key=lambda run: run.metrics["val_loss"])
    page.wait_for(*(run.name for run in ranked))
    assert names_in_order(page) == [run.name for run in ranked]
    page.wait_for(*(str(run.metrics["val_loss"])[:8] for run in ranked))


def test_the_printed_charts_are_about_val_loss(page: Browser, pages: str, sweep: Sweep) -> None:
    page.open(printed_link(sweep, pages, charts=True), "Parallel Coordinates", "n_params vs. val_loss", sweep.trials[0].name)
    axes = page.wait_until("[...document.querySelectorAll('.parcoords text, .parcoords svg text')].map(e => e.textContent)")
    assert {"d_model", "n_layers", "n_heads", "dropout", "val_loss"} <= set(axes)
    pixels = "canvas.getContext('2d').getImageData(0, 0, canvas.width, canvas.height).data"
    page.wait_until(f"[...document.querySelectorAll('canvas')].some(canvas => {pixels}.some(value => value))")
    assert "epoch/train_loss" not in page.text


def test_the_compare_page_draws_the_chosen_trials_as_parallel_coordinates(page: Browser, pages: str, sweep: Sweep) -> None:
    trials = [run for run in children_of(sweep) if run.kind == "trial"]
    chosen = json.dumps([run.run_id for run in trials], separators=(",", ":"))
    address = f"{pages}/#/compare-runs?runs={quote(chosen)}&experiments={quote(json.dumps([sweep.context.experiment_id]))}"
    page.open(address, "Parallel Coordinates Plot", "Scatter Plot", *(run.name for run in trials))
    axes = page.wait_until("[...document.querySelectorAll('.parcoords text')].map(e => e.textContent)")
    # MLflow chooses three parameters that differ and the first metric by name; docs/ui.md says what to choose then.
    assert {"dropout", "learning_rate", "epoch/train_loss"} <= set(axes)


def test_every_sweep_and_all_trials_are_among_the_saved_views(page: Browser, pages: str, sweep: Sweep) -> None:
    page.open(f"{pages}/#/experiments/{sweep.context.experiment_id}/runs?{TRAINING}&viewStateShareKey=trials", "budget", "2K")
    page.wait_for(*(one.name for one in sweep.trials), "all trials, best first")
    assert sorted(names_in_order(page)) == sorted(one.name for one in sweep.trials)


def test_a_trials_page_shows_curves_by_group_and_its_figures(page: Browser, pages: str, sweep: Sweep) -> None:
    run_id = best_trial(sweep)
    address = f"{pages}/#/experiments/{sweep.context.experiment_id}/runs/{run_id}"
    page.open(f"{address}/model-metrics?{TRAINING}", "epoch\n(5)", "Model metrics\n(", "val_loss", "train_loss")
    page.wait_until("document.querySelectorAll('.scatterlayer .point').length >= 4")
    for figure in ("reliability.png", "roc.png", "curve.png"):
        page.open(f"{address}/artifacts/{figure}?{TRAINING}", figure)
        page.wait_until(IMAGE_IS_DRAWN)


def test_the_sweeps_page_has_a_leaderboard_that_leads_to_the_trials(page: Browser, pages: str, sweep: Sweep) -> None:
    parent = run_page(sweep.context.experiment_id, sweep.log.run_id)
    page.open(f"{pages}/{parent}", "2K parameters, horizon 1", "best trial", "logistic regression", "replicated on fresh seeds")
    best = sweep.best
    assert best is not None
    links = page.value("[...document.links].map(a => [a.innerText, a.hash])")
    assert [best.name, run_page(sweep.context.experiment_id, best.run_id)] in links
    page.open(f"{pages}/{run_page(sweep.context.experiment_id, best.run_id)}", "Parent run", sweep.title, best.name)
    page.open(
        f"{pages}/#/experiments/{sweep.context.experiment_id}/runs/{sweep.log.run_id}/artifacts/search_history.png?{TRAINING}"
    )
    page.wait_until(IMAGE_IS_DRAWN)


def test_the_models_page_says_what_it_answers_and_which_version_is_asked(page: Browser, pages: str, sweep: Sweep) -> None:
    page.open(f"{pages}/#/models/{MODEL}?{TRAINING}", MODEL, "Version 1", "does the high touch +1% within 1 session?")
    page.wait_for(f"@ {schema.CHALLENGER}", f"make serve MODEL={MODEL}", "val_loss", "study_fingerprint")
    page.open(f"{pages}/#/models/{MODEL}/versions/1?{TRAINING}", "Candidate: chosen on validation, not yet tested")
    assert sweep.best is not None
    page.wait_for(f"{sweep.best.name}: {sweep.best.n_parameters:,} parameters", "Inputs (8)", "Outputs (2)")
