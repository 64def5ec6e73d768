"""What the tour does where a stop goes wrong."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from pipelines.checks.tour_serving_check import wait_for
from pipelines.checks.tour_steps import Alive, TourStep, run_stop
from research.errors import InputError
from tests.support.browser import free_port


def test_a_server_that_dies_is_noticed_at_once_with_its_last_words(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    address = f"http://127.0.0.1:{free_port()}"

    def check(store: Path, alive: Alive) -> str:
        wait_for(address, alive)
        return "it answered"

    makefile = tmp_path / "Makefile"
    makefile.write_text("serve:\n\t@echo 'error: MODEL=x: no such registered model' >&2; exit 2\n")
    stop = TourStep(title="serve", why="", command=("make", "-f", str(makefile), "serve"), check=check)
    begun = time.monotonic()
    with pytest.raises(InputError, match=r"ended by itself \(2\): error: MODEL=x: no such registered model$"):
        run_stop(stop, tmp_path)
    assert time.monotonic() - begun < 20
    assert "no such registered model" in capfd.readouterr().err


def test_a_server_that_is_asked_is_ended_afterwards(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    makefile, ready, begun = tmp_path / "Makefile", tmp_path / "ready", time.monotonic()
    makefile.write_text(f"serve:\n\t@touch {ready}; sleep 60\n")

    def check(store: Path, alive: Alive) -> str:
        while not ready.exists():
            alive()
            time.sleep(0.01)
        alive()
        return "it answered"

    run_stop(TourStep(title="serve", why="", command=("make", "-f", str(makefile), "serve"), check=check), tmp_path)
    assert "it answered" in capfd.readouterr().out
    assert time.monotonic() - begun < 20
