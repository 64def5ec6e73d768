"""Every page of the documentation is done as it says, in a copy of the checkout with a store of its own.

Small numbers take the place of those of the page where the page would take long: `SMALLER` replaces text of its commands,
`EPOCHS` goes in by the environment, which the Makefile reads wherever a command does not say it.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path

import pytest

from tests.docs.pages import PAGES, ROOT, blocks, checkout, run_page
from tests.support.yahoo_server import YahooServer, session_bars

pytestmark = pytest.mark.slow

EPOCHS = {"EPOCHS": "2", "THREADS": "1", "MLFLOW_TRACKING_URI": ""}
# Too small a market for the controls to pass: that they are judged is enough here.
SMALL_CONTROL = (
    "make control DEVICE=cpu TRIALS=1 EPOCHS=1 BARS=4000 | tee control.txt || grep -q 'A control failed' control.txt"
)
SMALLER = {
    "README.md": {
        "make test ": ": ",
        "TRIALS=12 REPLICATES=3; make leaderboard; make scaling; make baselines; make control": "TRIALS=2; make leaderboard; "
        f"make scaling; make baselines YEARS=2017-2018; {SMALL_CONTROL}",
    },
    "reading-results.md": {
        "HORIZONS=1,3 TRIALS=30 EPOCHS=4 REPLICATES=3": "HORIZONS=1 TRIALS=3 EPOCHS=1",
        "bars=12000": "bars=4000",
        "TRIALS=4 EPOCHS=8": "TRIALS=2 EPOCHS=1",
    },
    "data.md": {"make sweep": "make sweep TRIALS=1 LAYERS=1 BUDGET=2K"},
    "run-on-gpus.md": {"make control DEVICE=cpu BUDGET=6K TRIALS=4": SMALL_CONTROL},
}
BEFORE = {
    "serving.md": "make sweep BUDGET=3K TRIALS=2 LAYERS=1",
    "backtest.md": "make sweep BUDGET=6K TRIALS=1 LAYERS=1",
}
"""What a page takes for granted that its reader has."""
LISTED = (("SPY", "ETF", "PCX"), ("QQQ", "ETF", "NGM"), ("^VIX", "INDEX", "WCB"))
"""Symbol, kind and exchange of what pages ask of Yahoo."""


@pytest.fixture(scope="module")
def yahoo() -> Iterator[str]:
    """Where pages that ask Yahoo get an answer: walks of the exchange's sessions until yesterday."""
    last = f"{date.today() - timedelta(days=1)}"
    with YahooServer() as server:
        for number, (symbol, kind, exchange) in enumerate(LISTED):
            bars = session_bars("1993-01-29", last, seed=number, price=20.0)
            server.add(symbol, bars, kind=kind, exchange=exchange)
        yield server.url


def runnable(page: Path) -> bool:
    return any(not block.no_run and block.language in ("sh", "console", "diff") for block in blocks(page))


@pytest.mark.parametrize("page", [page for page in PAGES if runnable(page)], ids=lambda page: str(page.relative_to(ROOT)))
def test_the_page_works_as_it_says(page: Path, migrated_store: Path, yahoo: str, tmp_path: Path):
    copy = checkout(tmp_path / "tapescale", migrated_store)
    environment = {**EPOCHS, "TAPESCALE_YAHOO": yahoo}
    before, smaller = BEFORE.get(page.name, ""), SMALLER.get(page.name, {})
    skipped = run_page(page, copy, before=before, smaller=smaller, environment=environment)
    print("not run:", *skipped, sep="\n  ")
