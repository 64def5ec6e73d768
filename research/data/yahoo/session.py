"""The HTTP session of yfinance: it keeps Yahoo's last chart answer and can send all requests to a mirror.

With `TAPESCALE_YAHOO=http://host:port` in the environment, every request to a yahoo.com host goes to this address, with
the original host in the header `X-Original-Host`. A request to any other host is refused. Recording proxies and tests use
this. Nothing of yfinance is replaced: it accepts a custom session.
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
    """A browser-like session with one time limit for all requests; it keeps each thread's last chart answer."""

    def __init__(self, *, timeout: float, **options: Any) -> None:
        super().__init__(impersonate="chrome", **options)
        self._limit = timeout
        self._chart = threading.local()

    @property
    def chart_answer(self) -> Response | None:
        """Answer to this thread's latest chart request; None if there was no request or no answer."""
        answer: Response | None = getattr(self._chart, "answer", None)
        return answer

    def forget(self) -> None:
        """Discard the answer before another symbol or attempt, so that it does not explain a new failure."""
        self._chart.answer = None

    def request(self, method: Any, url: str, **options: Any) -> Response:  # type: ignore[override]
        """Send a request as curl_cffi does, with our time limit instead of yfinance's varying ones."""
        options["timeout"] = self._limit
        if CHART_PATH in url:
            self.forget()
        answer = self._send(method, url, **options)
        # After a consent form, the chart is the answer to the form.
        if CHART_PATH in url or CHART_PATH in answer.url:
            self._chart.answer = answer
        return answer

    def _send(self, method: Any, url: str, **options: Any) -> Response:
        return super().request(method, url, **options)


class MirroredSession(YahooSession):
    """A session that sends requests for Yahoo to the mirror."""

    def __init__(self, *, timeout: float, mirror: str) -> None:
        # A company's proxy cannot reach a mirror on this machine.
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
            # yfinance checks the host that answered, and relative links refer to it.
            answer.url = url
            if "Location" not in answer.headers:
                return answer
            method, url = "GET", urljoin(url, answer.headers["Location"])
            options = {"timeout": options["timeout"]}
        raise InputError(f"{MIRROR_VARIABLE}={self._mirror}: the mirror redirects without end; correct it.")

    def _in_mirror(self, url: str) -> tuple[str, str]:
        parts = urlsplit(url)
        host = parts.hostname or ""
        fix = f"a request to {host} was refused, because only yahoo.com is mirrored; correct the mirror or unset the variable."
        require(host == "yahoo.com" or host.endswith(".yahoo.com"), MIRROR_VARIABLE, self._mirror, fix)
        return f"{self._mirror}{parts.path}{'?' if parts.query else ''}{parts.query}", host


def mirror_from_environment() -> str:
    """Return the mirror's address, or an empty string; raise `InputError` if it is no http address."""
    mirror = os.environ.get(MIRROR_VARIABLE, "")
    parts = urlsplit(mirror)
    valid = parts.scheme in ("http", "https") and bool(parts.netloc)
    require(valid or not mirror, MIRROR_VARIABLE, mirror, "not an address; give http://host:port, or unset the variable.")
    return mirror


@cache
def session_for(mirror: str, timeout: float) -> YahooSession:
    """Return the process's session: yfinance keeps cookie and crumb, which belong to the session that received them."""
    _private_cache_folder()
    return MirroredSession(timeout=timeout, mirror=mirror) if mirror else YahooSession(timeout=timeout)


@cache
def _private_cache_folder() -> tempfile.TemporaryDirectory[str]:
    """Give yfinance a private cache: in the user's home, processes would share it and a mirror's answers would stay."""
    folder = tempfile.TemporaryDirectory(prefix="tapescale-yfinance-")
    yfinance.set_tz_cache_location(folder.name)
    return folder
