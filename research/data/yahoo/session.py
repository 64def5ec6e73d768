"""The HTTP session given to yfinance: remembers what Yahoo answered, and can send everything to a mirror.

With `TAPESCALE_YAHOO=http://host:port` in the environment every request to a yahoo.com host goes there instead, the
host it was meant for in the header `X-Original-Host`, and a request to any other host is refused. That serves a
recording proxy, and tests. Nothing of yfinance is replaced: it takes a session of one's own.
"""

from __future__ import annotations

import os
import tempfile
import threading
from functools import cache
from typing import Any
from urllib.parse import urljoin, urlsplit

import yfinance
from curl_cffi import CurlOpt
from curl_cffi.requests import Response, Session

from research.errors import InputError, require

MIRROR_VARIABLE = "TAPESCALE_YAHOO"
CHART_PATH = "/v8/finance/chart/"
MAX_REDIRECTS = 10


class YahooSession(Session[Response]):
    """A browser-like session, one time limit for all it does, which keeps the last chart answer of each thread."""

    def __init__(self, *, timeout: float, **options: Any) -> None:
        super().__init__(impersonate="chrome", **options)
        self._limit = timeout
        self._chart = threading.local()

    @property
    def chart_answer(self) -> Response | None:
        """The answer to this thread's latest chart request; None if there was none or it never came."""
        answer: Response | None = getattr(self._chart, "answer", None)
        return answer

    def forget(self) -> None:
        """Before another symbol or attempt, so that an old answer explains no new failure."""
        self._chart.answer = None

    def request(self, method: Any, url: str, **options: Any) -> Response:  # type: ignore[override]
        """As in curl_cffi; yfinance's own time limits differ from request to request and yield to ours."""
        options["timeout"] = self._limit
        if CHART_PATH in url:
            self.forget()
        answer = self._send(method, url, **options)
        # After a consent form the chart comes as the answer to the form.
        if CHART_PATH in url or CHART_PATH in answer.url:
            self._chart.answer = answer
        return answer

    def _send(self, method: Any, url: str, **options: Any) -> Response:
        return super().request(method, url, **options)


class MirroredSession(YahooSession):
    """Sends what is meant for Yahoo to the mirror."""

    def __init__(self, *, timeout: float, mirror: str) -> None:
        # A company's proxy for the outside world would not know a mirror on this machine.
        super().__init__(timeout=timeout, curl_options={CurlOpt.NOPROXY: "*"})
        self._mirror = mirror.rstrip("/")

    def _send(self, method: Any, url: str, **options: Any) -> Response:
        headers = dict(options.pop("headers", None) or {})
        options.pop("allow_redirects", None)
        for _ in range(MAX_REDIRECTS):
            target, host = self._in_mirror(url)
            answer = super()._send(
                method, target, headers={**headers, "X-Original-Host": host}, allow_redirects=False, **options
            )
            # yfinance looks at the host that answered, and a relative link is relative to it.
            answer.url = url
            if "Location" not in answer.headers:
                return answer
            method, url = "GET", urljoin(url, answer.headers["Location"])
            options = {"timeout": options["timeout"]}
        raise InputError(f"{MIRROR_VARIABLE}={self._mirror}: it redirects without end; mend the mirror.")

    def _in_mirror(self, url: str) -> tuple[str, str]:
        asked = urlsplit(url)
        host = asked.hostname or ""
        fix = f"a request to {host} was refused, for only yahoo.com is mirrored; mend the mirror or unset it."
        require(host == "yahoo.com" or host.endswith(".yahoo.com"), MIRROR_VARIABLE, self._mirror, fix)
        return f"{self._mirror}{asked.path}{'?' if asked.query else ''}{asked.query}", host


def mirror_from_environment() -> str:
    """The mirror's address, empty without one."""
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    asked = urlsplit(mirror)
    correct = asked.scheme in ("http", "https") and bool(asked.netloc)
    require(correct or not mirror, MIRROR_VARIABLE, mirror, "give http://host:port, or unset it.")
    return mirror


@cache
def session_for(mirror: str, timeout: float) -> YahooSession:
    """One session per process: yfinance keeps cookie and crumb for good, and they belong to the session that got them."""
    _private_cache_folder()
    return MirroredSession(timeout=timeout, mirror=mirror) if mirror else YahooSession(timeout=timeout)


@cache
def _private_cache_folder() -> tempfile.TemporaryDirectory[str]:
    """For yfinance's files: in the user's home two processes would share them, and what a mirror said would stay."""
    folder = tempfile.TemporaryDirectory(prefix="tapescale-yfinance-")
    yfinance.set_tz_cache_location(folder.name)
    return folder
