"""Retries for a store that does not answer for a while: a locked database, a full disk, a restarting server."""

from __future__ import annotations

import errno
import os
import random
import sys
import time
from collections.abc import Callable, Iterator
from functools import wraps
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar, cast
from uuid import uuid4

from research.errors import InputError
from research.tracking import schema

if TYPE_CHECKING:
    # MLflow takes seconds to import; a reader of a local store does without it.
    from mlflow import MlflowClient
    from mlflow.entities import Run

PATIENCE_SECONDS = 300.0
FIRST_PAUSE = 0.2
LONGEST_PAUSE = 10.0

ERRNOS = {errno.ENOSPC, errno.EDQUOT, errno.ECONNREFUSED, errno.ECONNRESET, errno.EPIPE, errno.ETIMEDOUT}
HTTP_STATUS = {429, 502, 503, 504}
PHRASES = (
    "database is locked",
    "database table is locked",
    "database schema is locked",
    "disk is full",
    "disk I/O error",
    "No space left on device",
    "Disk quota exceeded",
    "Connection refused",
    "Connection reset",
    "Connection aborted",
    "Remote end closed connection",
    "timed out",
    "timeout exception",
    *(f"error code {status}" for status in sorted(HTTP_STATUS)),
)
"""MLflow turns most errors into text; these are the transient ones."""
REFUSALS = {"INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST", "RESOURCE_ALREADY_EXISTS", "PERMISSION_DENIED"}
"""Error codes that a retry cannot change."""

P = ParamSpec("P")
Result = TypeVar("Result")


class StoreUnavailable(InputError):  # noqa: N818
    """The store did not answer within the retry time."""


class RetryPolicy:
    """Retries of calls while the store does not answer."""

    def __init__(self, where: str, seconds: float = PATIENCE_SECONDS):
        self.where = where
        self.seconds = seconds
        self._is_reported = False

    def call(self, function: Callable[P, Result], *args: P.args, **kwargs: P.kwargs) -> Result:
        """Return the function's result; retry transient failures until the time is over, raise any other at once."""
        give_up_at = time.monotonic() + self.seconds
        pause = FIRST_PAUSE
        while True:
            try:
                result = function(*args, **kwargs)
            except Exception as error:
                reason = transient_reason(error)
                if reason is None:
                    raise
                if time.monotonic() >= give_up_at:
                    raise self._unavailable(reason) from error
                self._tell_away(reason)
            else:
                self._tell_back()
                return result
            # Several workers that wait for the same store should not come back in step.
            time.sleep(min(pause * random.uniform(0.5, 1.0), max(0.0, give_up_at - time.monotonic())))
            pause = min(2 * pause, LONGEST_PAUSE)

    def _tell_away(self, reason: str) -> None:
        if not self._is_reported:
            self._is_reported = True
            limit = f"{self.seconds / 60:g} minutes" if self.seconds >= 120 else f"{self.seconds:g} seconds"
            print(f"the store does not answer ({reason}); trying again for up to {limit}.", file=sys.stderr)

    def _tell_back(self) -> None:
        if self._is_reported:
            self._is_reported = False
            print("the store answers again.", file=sys.stderr)

    def _unavailable(self, reason: str) -> StoreUnavailable:
        self._is_reported = False
        return StoreUnavailable(
            f"STORE={self.where}: no answer for {self.seconds:g} seconds ({reason}); "
            "mend that and give the same command again, it goes on where it stopped and nothing finished is lost."
        )


def transient_reason(error: BaseException) -> str | None:
    """Return the reason of a transient failure in a few words; None for a permanent one."""
    answer = _from_mlflow(error, "MlflowException")
    if isinstance(error, InputError) or (answer is not None and answer.error_code in REFUSALS):
        return None
    for cause in _chain(error):
        if isinstance(cause, OSError) and cause.errno in ERRNOS:
            return os.strerror(cause.errno)
        if (status := _http_status(cause)) in HTTP_STATUS:
            return f"HTTP status {status}"
        for phrase in PHRASES:
            if phrase in str(cause):
                return phrase
    return None


def _http_status(error: BaseException) -> int | None:
    # Only a server's answer counts: locally MLflow gives every failure of the database the same status.
    answer = _from_mlflow(error, "RestException")
    if answer is not None:
        return int(answer.get_http_status_code())
    return getattr(getattr(error, "response", None), "status_code", None)


def _from_mlflow(error: BaseException, kind: str) -> Any:
    """Return the error if it is of this class of MLflow, else None; an MLflow that is not loaded has raised nothing."""
    return error if isinstance(error, getattr(sys.modules.get("mlflow.exceptions"), kind, ())) else None


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


class _PatientClient:
    """An MLflow client that retries every call."""

    def __init__(self, client: MlflowClient, patience: RetryPolicy):
        self._client = client
        self._patience = patience

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        member = getattr(self._client, name)
        if not callable(member):
            return member

        @wraps(member)
        def patiently(*args: Any, **kwargs: Any) -> Any:
            return self._patience.call(member, *args, **kwargs)

        return patiently

    def create_run(self, experiment_id: str, *, tags: dict[str, Any] | None = None, **kwargs: Any) -> Run:
        """Create a run exactly once: before a retry, search for the run of a call whose answer was lost."""
        token = uuid4().hex
        tried = False

        def create() -> Run:
            nonlocal tried
            if tried:
                created = self._client.search_runs([experiment_id], f"tags.{schema.CREATION} = '{token}'", max_results=1)
                if created:
                    return created[0]
            tried = True
            return self._client.create_run(experiment_id, tags={**(tags or {}), schema.CREATION: token}, **kwargs)

        return self._patience.call(create)


def patient_client(uri: str, patience: RetryPolicy) -> MlflowClient:
    """Return a client of the store at `uri` that retries calls which a plain client would fail."""
    from mlflow import MlflowClient

    client = patience.call(MlflowClient, tracking_uri=uri, registry_uri=uri)
    return cast("MlflowClient", _PatientClient(client, patience))
