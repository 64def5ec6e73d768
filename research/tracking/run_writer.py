"""Writer of one MLflow run: created with its parameters, filled during the work, ended with an outcome."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from mlflow.entities import Dataset, DatasetInput, InputTag, Metric, Param, RunTag

from research.errors import InputError
from research.tracking import schema
from research.tracking.retry import StoreUnavailable
from research.tracking.schema import Outcome, RunKind
from research.tracking.store import Store

FLUSH_SECONDS = 5.0
BATCH_LIMIT = 900
"""Metrics in one batch: MLflow's client would split one of more than 1,000 entries and send the outcome too early."""

Value = str | int | float | bool


@dataclass(frozen=True, kw_only=True)
class Input:
    """A dataset that a run used, for MLflow's dataset column."""

    name: str
    digest: str
    source: str
    context: str
    """Use of the dataset: `bars` or `target`."""
    profile: str = "{}"
    """JSON with a few counts."""


class RunClosedError(InputError):
    """Another process has ended this run."""


class RunLog:
    """An open run. Metrics are buffered and sent every few seconds: one call per value costs a hundred times more."""

    def __init__(self, store: Store, run_id: str):
        self.store = store
        self.run_id = run_id
        self._pending: list[Metric] = []
        self._last_flush = time.monotonic()

    @classmethod
    def start(
        cls,
        store: Store,
        *,
        experiment_id: str,
        kind: RunKind,
        name: str,
        params: Mapping[str, Value],
        tags: Mapping[str, str],
        parent_id: str | None = None,
        inputs: Sequence[Input] = (),
    ) -> RunLog:
        """Create the run with its parameters and dataset inputs, before the work that it records."""
        all_tags = {schema.KIND: kind, **tags, **({schema.PARENT: parent_id} if parent_id else {})}
        run = store.client.create_run(experiment_id, tags=all_tags, run_name=name)
        log = cls(store, run.info.run_id)
        store.client.log_batch(log.run_id, params=[Param(key, _text(value)) for key, value in params.items()])
        if inputs:
            store.client.log_inputs(log.run_id, [_dataset_input(used) for used in inputs])
        return log

    @classmethod
    def reopen(cls, store: Store, run_id: str) -> RunLog:
        """Continue a run that had ended: it becomes RUNNING and loses its outcome."""
        store.client.update_run(run_id, status="RUNNING")
        if schema.OUTCOME in store.client.get_run(run_id).data.tags:
            store.client.delete_tag(run_id, schema.OUTCOME)
        return cls(store, run_id)

    def metric(self, name: str, value: float, step: int = 0) -> None:
        """Buffer one value; it is sent with the next batch."""
        self._pending.append(Metric(name, float(value), int(time.time() * 1000), step))
        if time.monotonic() - self._last_flush > FLUSH_SECONDS:
            self.flush()

    def flush(self) -> None:
        """Send the buffered metrics."""
        self._send()

    def _send(self, tags: Sequence[RunTag] = ()) -> None:
        """Send the buffered metrics, the tags with the last batch: a call costs more than its content."""
        while len(self._pending) > BATCH_LIMIT:
            self.store.client.log_batch(self.run_id, metrics=self._pending[:BATCH_LIMIT])
            del self._pending[:BATCH_LIMIT]
        if self._pending or tags:
            self.store.client.log_batch(self.run_id, metrics=self._pending, tags=tags)
        self._pending = []
        self._last_flush = time.monotonic()

    def tag(self, name: str, value: str) -> None:
        """Set one tag now."""
        self.store.client.set_tag(self.run_id, name, value)

    def tags(self) -> dict[str, str]:
        """Return the run's tags as stored."""
        return dict(self.store.client.get_run(self.run_id).data.tags)

    def tags_and_status(self) -> tuple[dict[str, str], str]:
        """Return the run's tags and MLflow status as stored."""
        run = self.store.client.get_run(self.run_id)
        return dict(run.data.tags), str(run.info.status)

    def require_open(self) -> None:
        """Raise `RunClosedError` if another driver has closed the run and repeats its trial: a result is written once."""
        tags, status = self.tags_and_status()
        if status != "RUNNING" or schema.OUTCOME in tags:
            raise RunClosedError(f"run {self.run_id} was closed by another driver, which continues the sweep.")

    @contextmanager
    def ending(self) -> Iterator[None]:
        """Close the run as `interrupted` or `crashed`, with the reason, if an exception leaves the block."""
        try:
            yield
        except StoreUnavailable:
            raise
        except KeyboardInterrupt:
            self.finish("interrupted", tags={schema.REASON: "stopped by the user"})
            raise
        except Exception as error:
            self.finish("crashed", tags={schema.REASON: f"{type(error).__name__}: {error}"[:500]})
            raise

    def artifacts(self, write: Callable[[Path], None]) -> None:
        """Log the files that `write` puts into a temporary folder, in one call."""
        with tempfile.TemporaryDirectory() as folder:
            self.store.patience.call(write, Path(folder))
            self.store.client.log_artifacts(self.run_id, folder)

    def finish(
        self, outcome: Outcome, *, metrics: Mapping[str, float] | None = None, tags: Mapping[str, str] | None = None
    ) -> None:
        """Write buffered and final metrics with the outcome, then the status, which never precedes the outcome.

        MLflow stores a batch's metrics before its tags, so a run with an outcome tag has all its metrics.
        """
        now = int(time.time() * 1000)
        self._pending += [Metric(name, float(value), now, 0) for name, value in (metrics or {}).items()]
        self._send([RunTag(key, value) for key, value in {**(tags or {}), schema.OUTCOME: outcome}.items()])
        self.store.client.set_terminated(self.run_id, schema.STATUS_OF_OUTCOME[outcome])


def _text(value: Value) -> str:
    return repr(value) if isinstance(value, float) else str(value)


def _dataset_input(used: Input) -> DatasetInput:
    dataset = Dataset(used.name, used.digest, "local", used.source, None, used.profile)
    return DatasetInput(dataset, [InputTag("mlflow.data.context", used.context)])
