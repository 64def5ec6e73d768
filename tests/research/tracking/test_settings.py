from __future__ import annotations

import os
import subprocess
import sys

import pytest

REPEATS = "MLFLOW_HTTP_REQUEST_MAX_RETRIES"
SILENCED = ("PYTEST_CURRENT_TEST", "PYTEST_VERSION", "CI", "GITHUB_ACTIONS", "MLFLOW_DISABLE_TELEMETRY", "DO_NOT_TRACK")


@pytest.mark.parametrize("module", ["research.tracking.query", "pipelines"])
def test_mlflow_is_imported_with_our_settings(module: str) -> None:
    """MLflow decides about telemetry while it is imported; under a test it would be off by itself."""
    code = f"import {module}, os; from mlflow.telemetry import get_telemetry_client as c; print(c(), os.environ['{REPEATS}'])"
    outside = {name: value for name, value in os.environ.items() if name not in SILENCED}
    ran = subprocess.run([sys.executable, "-c", code], env=outside, capture_output=True, text=True, timeout=100, check=True)
    assert ran.stdout.split() == ["None", "0"]
