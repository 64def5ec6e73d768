"""MLflow's scoring server over a registered model: a probability or one sentence, never a traceback.

What MLflow 3.17 answers by itself: 400 with the traceback for every exception of the model but its own, 400 with the data
and the schema repeated around the reason, text and booleans silently turned into numbers, 500 without a content type.
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

OUR_MISTAKE = "Encountered an unexpected error"
"""How MLflow begins its answer where the model raised anything but a refusal: a client need not see why, its owner must."""
_log = logging.getLogger(__name__)


class StrictInputModel:
    """A model as the scoring server sees it: without a schema that would turn text and booleans into numbers."""

    def __init__(self, model: PyFuncModel):
        self._model = model
        schema = model.metadata.get_input_schema()  # type: ignore[no-untyped-call]
        self._numbers = [one.name for one in schema.inputs if one.type == DataType.double]
        self.metadata = self

    def get_input_schema(self) -> None:
        """None: MLflow then leaves the values as they were sent, and holds them to the schema only when it predicts."""

    def predict(self, data: Any, params: dict[str, Any] | None = None) -> Any:
        """The model's table; whatever it cannot answer raises `MlflowException`."""
        if not isinstance(data, pd.DataFrame):
            raise MlflowException.invalid_parameter_value("Send bars as dataframe_split, dataframe_records or CSV.")
        try:
            if data.columns.has_duplicates:
                raise InputError(f"column {data.columns[data.columns.duplicated()][0]} comes twice; send it once.")
            present = [name for name in self._numbers if name in data.columns]
            return self._model.predict(data.assign(**{name: _numbers(data[name], name) for name in present}), params=params)
        except InputError as problem:
            raise MlflowException.invalid_parameter_value(str(problem)) from problem


def _numbers(column: pd.Series[Any], name: str) -> pd.Series[float]:
    """The column as decimals, which MLflow does not make of integers; nothing but a number passes, or a missing value."""
    dtype = column.dtype
    if not pd.api.types.is_numeric_dtype(dtype) or pd.api.types.is_bool_dtype(dtype):
        wrong = [one for one in column if one is not None and (isinstance(one, bool) or not isinstance(one, int | float))]
        if wrong:
            # One word in a CSV makes text of the whole column: it is the word that is to be mended.
            culprit = next((one for one in wrong if not _is_written_number(one)), wrong[0])
            raise InputError(f"column {name} has {str(culprit)[:40]!r}, which is no number; send numbers.")
    return column.astype("float64")


def _is_written_number(value: object) -> bool:
    try:
        float(str(value))
    except ValueError:
        return False
    return True


def scoring_app(model: PyFuncModel) -> FastAPI:
    """The server's application, for requests to this machine's own name alone."""
    # Its warnings are advice about a format that Strict refuses, one for each refusal.
    logging.getLogger("mlflow.pyfunc.scoring_server").setLevel(logging.ERROR)
    app: FastAPI = scoring_server.init(StrictInputModel(model))  # type: ignore[arg-type]
    app.middleware("http")(_one_sentence)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=[HOST, "localhost"])
    return app


async def _one_sentence(request: Request, answer: Callable[[Request], Awaitable[Response]]) -> Response:
    if request.method == "POST" and "content-type" not in request.headers:
        return _refusal(415, "BAD_REQUEST", f"Name the content type: {', '.join(scoring_server.CONTENT_TYPES)}.")
    response = await answer(request)
    if response.status_code < 400:
        return response
    body = b"".join([part async for part in response.body_iterator])  # type: ignore[attr-defined]
    try:
        told = json.loads(body)
    except ValueError:
        told = {"message": body.decode(errors="replace")}
    message = told.get("message") or told.get("detail") or "The request cannot be answered."
    if message.startswith(OUR_MISTAKE):
        _log.error("the model failed on a request\n%s", told.get("stack_trace"))
    return _refusal(response.status_code, told.get("error_code", "BAD_REQUEST"), sentence_of(message))


def _refusal(status: int, code: str, sentence: str) -> Response:
    return JSONResponse({"error_code": code, "message": sentence}, status_code=status)
