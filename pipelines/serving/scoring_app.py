"""MLflow's scoring server for a registered model; an error is one sentence, never a traceback.

MLflow 3.17 alone returns status 400 with a traceback for every exception that is not its own, or with the data and the schema
repeated around the reason. It silently turns text and booleans into numbers, and returns 500 without a content type.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Awaitable, Callable
from typing import Any

import pandas as pd
from fastapi import FastAPI, Request, Response
from fastapi.responses import JSONResponse
from mlflow.exceptions import MlflowException
from mlflow.pyfunc import PyFuncModel, scoring_server
from mlflow.types import DataType
from starlette.middleware.trustedhost import TrustedHostMiddleware

from pipelines.serving.ports import HOST
from research.errors import InputError
from research.tracking.registry import sentence_of

UNEXPECTED_ERROR = "Encountered an unexpected error"
"""Start of MLflow's message if the model failed unexpectedly: the reason is logged, and not sent to the client."""
_log = logging.getLogger(__name__)


class StrictInputModel:
    """A model without an input schema for the scoring server, which would turn text and booleans into numbers by it."""

    def __init__(self, model: PyFuncModel):
        self._model = model
        schema = model.metadata.get_input_schema()  # type: ignore[no-untyped-call]
        self._numbers = [column.name for column in schema.inputs if column.type == DataType.double]
        self.metadata = self

    def get_input_schema(self) -> None:
        """Return None: MLflow then keeps the values as they were sent, and enforces the schema only when it predicts."""

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """Return the model's predictions; raise `MlflowException` for data that it cannot use."""
        if not isinstance(data, pd.DataFrame):
            raise MlflowException.invalid_parameter_value("Send bars as dataframe_split, dataframe_records or CSV.")
        try:
            if data.columns.has_duplicates:
                raise InputError(f"column {data.columns[data.columns.duplicated()][0]} is duplicated; send it once.")
            present = [name for name in self._numbers if name in data.columns]
            return self._model.predict(data.assign(**{name: _numbers(data[name], name) for name in present}), params=params)
        except InputError as error:
            raise MlflowException.invalid_parameter_value(str(error)) from error


def _numbers(column: pd.Series[Any], name: str) -> pd.Series[float]:
    """Return the column as floats, which MLflow does not do for integers; raise `InputError` for a value that is no number."""
    dtype = column.dtype
    if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
        wrong = [x for x in column if x is not None and (isinstance(x, bool) or not isinstance(x, int | float))]
        if wrong:
            # One word in a CSV turns the whole column into text: name the word and not a number written as text.
            culprit = next((value for value in wrong if not _is_written_number(value)), wrong[0])
            raise InputError(f"column {name} has {str(culprit)[:40]!r}, which is not a number; send numbers.")
    return column.astype("float64")


def _is_written_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def scoring_app(model: PyFuncModel) -> FastAPI:
    """Return the server's application, which accepts requests to the loopback names only."""
    # Its warnings are advice about a format that `StrictInputModel` refuses, one for each refusal.
    logging.getLogger("mlflow.pyfunc.scoring_server").setLevel(logging.ERROR)
    app: FastAPI = scoring_server.init(StrictInputModel(model))  # type: ignore[arg-type]
    app.middleware("http")(_short_errors)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return app


async def _short_errors(request: Request, call_next: Callable[[Request], Awaitable[Response]]) -> Response:
    """Reduce every error response to its code and one sentence."""
    if request.method == "POST" and "content-type" not in request.headers:
        return _error(415, "BAD_REQUEST", f"Give the content type: {', '.join(scoring_server.CONTENT_TYPES)}.")
    response = await call_next(request)
    if response.status_code < 400:
        return response
    body = b"".join([part async for part in response.body_iterator])  # type: ignore[attr-defined]
    try:
        content = json.loads(body)
    except ValueError:
        content = {"message": body.decode(errors="replace")}
    message = content.get("message") or content.get("detail") or "The request failed."
    if message.startswith(UNEXPECTED_ERROR):
        _log.error("the model failed on a request\n%s", content.get("stack_trace"))
    return _error(response.status_code, content.get("error_code", "BAD_REQUEST"), sentence_of(message))


def _error(status: int, code: str, sentence: str) -> Response:
    return JSONResponse({"error_code": code, "message": sentence}, status_code=status)
