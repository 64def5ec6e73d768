"""Headless Chromium driven over its DevTools protocol: open a page, wait until it says something, look, take a picture.

And the server whose pages are looked at.
"""

from __future__ import annotations

import base64
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.request import urlopen

from websockets.sync.client import ClientConnection, connect

WIDTH, HEIGHT = 1400, 900
PROGRAMS = ("chromium", "chromium-browser", "google-chrome")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
    f"--window-size={WIDTH},{HEIGHT}",
)
CLOSE_ASSISTANT = """try {
    localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
    localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");
} catch {}"""
"""MLflow opens a panel of its own over a quarter of the first page that it shows; a person closes it once."""
STARTS_WITHIN = 60.0
SHOWS_WITHIN = 60.0


def chromium() -> str | None:
    """Where the browser is, None where there is none."""
    return next((found for name in PROGRAMS if (found := shutil.which(name))), None)


class Browser:
    """One page of a running Chromium."""

    def __init__(self, connection: ClientConnection):
        self._connection = connection
        self._calls = 0
        self._call("Page.enable")
        self._call("Page.addScriptToEvaluateOnNewDocument", source=CLOSE_ASSISTANT)
        self._call("Emulation.setDeviceMetricsOverride", width=WIDTH, height=HEIGHT, deviceScaleFactor=1, mobile=False)

    def open(self, address: str, *texts: str) -> None:
        """Go to an address and wait until the page says all the texts."""
        # A page that differs only after the # would not be loaded again.
        self._call("Page.navigate", url="about:blank")
        self._call("Page.navigate", url=address)
        self.wait_for(*texts)

    def wait_for(self, *texts: str, seconds: float = SHOWS_WITHIN) -> None:
        """Wait until the page says all the texts; an error that repeats what it says where it does not."""
        end = time.monotonic() + seconds
        while missing := [text for text in texts if text not in self.text]:
            assert time.monotonic() < end, f"the page does not say {missing}; it says:\n{self.text}"
            time.sleep(0.2)

    def wait_until(self, expression: str, seconds: float = SHOWS_WITHIN) -> Any:
        """Wait until a JavaScript expression is true, and return its value."""
        end = time.monotonic() + seconds
        while not (value := self.value(expression)):
            assert time.monotonic() < end, f"{expression} stays {value!r}; the page says:\n{self.text}"
            time.sleep(0.2)
        return value

    @property
    def text(self) -> str:
        """What a person can read; a space that may not be broken is a space."""
        return str(self.value("document.body ? document.body.innerText : ''")).replace("\xa0", " ")

    def value(self, expression: str) -> Any:
        """Value of a JavaScript expression in the page."""
        said = self._call("Runtime.evaluate", expression=expression, returnByValue=True, awaitPromise=True)
        assert "exceptionDetails" not in said, said["exceptionDetails"]
        return said["result"].get("value")

    def click(self, selector: str) -> None:
        """Click the first element that a CSS selector finds, as a mouse would."""
        box = self.wait_until(
            f"(e => e && (e.scrollIntoView({{block: 'center'}}), (r => [r.x + r.width / 2, r.y + r.height / 2])"
            f"(e.getBoundingClientRect())))(document.querySelector({json.dumps(selector)}))"
        )
        place = {"x": box[0], "y": box[1], "button": "left", "clickCount": 1}
        for kind in ("mousePressed", "mouseReleased"):
            self._call("Input.dispatchMouseEvent", type=kind, **place)

    def picture(self) -> bytes:
        """The window as a PNG."""
        return base64.b64decode(self._call("Page.captureScreenshot", format="png")["data"])

    def _call(self, method: str, **arguments: object) -> dict[str, Any]:
        self._calls += 1
        self._connection.send(json.dumps({"id": self._calls, "method": method, "params": arguments}))
        while True:
            # Events come in between; nobody waits for one.
            answer = json.loads(self._connection.recv(timeout=SHOWS_WITHIN))
            if answer.get("id") == self._calls:
                assert "error" not in answer, (method, answer["error"])
                return dict(answer["result"])


@contextmanager
def browser() -> Iterator[Browser]:
    """A Chromium of its own with an empty profile, ended with all its processes."""
    program = chromium()
    assert program is not None
    with TemporaryDirectory(prefix="tapescale-chromium-", ignore_cleanup_errors=True) as profile:
        process = subprocess.Popen(
            [program, *FLAGS, f"--user-data-dir={profile}", "about:blank"],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        try:
            with connect(_page_of(Path(profile), process), max_size=None) as connection:
                yield Browser(connection)
        finally:
            process.terminate()
            process.wait(20)


def _page_of(profile: Path, process: subprocess.Popen[bytes]) -> str:
    """WebSocket address of the first page. Chromium writes the port that it took into its profile."""
    end = time.monotonic() + STARTS_WITHIN
    while time.monotonic() < end:
        assert process.poll() is None, f"Chromium ended with {process.returncode}"
        with suppress(OSError, StopIteration, IndexError):
            port = (profile / "DevToolsActivePort").read_text().split()[0]
            with urlopen(f"http://127.0.0.1:{port}/json/list", timeout=5) as answer:
                return next(str(one["webSocketDebuggerUrl"]) for one in json.load(answer) if one["type"] == "page")
        time.sleep(0.1)
    raise TimeoutError("Chromium did not start")


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@contextmanager
def pages_over(root: Path) -> Iterator[str]:
    """`make ui` over a store, on a free port; its address."""
    port = free_port()
    command = [sys.executable, "-m", "tapescale", "ui", "--store", str(root), "--port", str(port)]
    environment = {**os.environ, "MLFLOW_TRACKING_URI": ""}
    server = subprocess.Popen(
        command, env=environment, start_new_session=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    try:
        end = time.monotonic() + STARTS_WITHIN
        while not _is_up(port):
            assert server.poll() is None, f"the server ended with {server.returncode}"
            assert time.monotonic() < end, "the server did not start"
            time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        os.killpg(server.pid, signal.SIGTERM)
        server.wait(30)


def _is_up(port: int) -> bool:
    with suppress(OSError), urlopen(f"http://127.0.0.1:{port}/health", timeout=1):
        return True
    return False
