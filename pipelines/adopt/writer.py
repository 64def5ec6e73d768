"""Writing legacy results: one parent run per study, one nested run per trial, each trial once."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property

from filelock import FileLock, Timeout

from pipelines.adopt.numbers import UnreadableError
from pipelines.adopt.record import LegacyStudy, Parsed, Record, Rejection, Value, fingerprints
from pipelines.adopt.size import Size, size_of
from research.errors import InputError
from research.fingerprint import digest_bytes, fingerprint
from research.tracking import query, schema
from research.tracking.provenance import provenance
from research.tracking.run_writer import RunLog
from research.tracking.store import Store

PROGRAM = "pipelines.adopt.adopt"
LONGEST_TEXT = 1000
NOTE = (
    "Results of an earlier study, as its files tell them: adopted, not trained here, not comparable with native results.\n\n"
    "Budget and horizon are claims; `n_params` is counted by formula from the shape. All studies of that time were "
    "trained on the 1-day label whatever horizon they name, and weight decay and warm-up never reached their optimizer."
)


@dataclass(frozen=True, kw_only=True)
class Candidate:
    """A record with its identity and counted size."""

    record: Record
    fingerprint: str
    size: Size


@dataclass(frozen=True, kw_only=True)
class SourceFile:
    """A parsed file."""

    name: str
    """Name without folders, because a record must not depend on the folder of its file."""
    digest: str
    form: str
    candidates: list[Candidate]
    rejections: list[Rejection]


@dataclass(frozen=True, kw_only=True)
class Known:
    """A trial that was adopted before."""

    candidate: Candidate
    source: str
    """File of the adopted trial."""
    differs: tuple[str, ...]
    """Settings that differ between the two files."""


@dataclass(frozen=True, kw_only=True)
class FileResult:
    """Adopted and repeated trials of a file."""

    source: SourceFile
    adopted: list[Candidate]
    known: list[Known]


def source_file(name: str, content: bytes, parsed: Parsed) -> SourceFile:
    """Return the records with identity and counted size; reject those with an impossible shape."""
    candidates, rejections = [], list(parsed.rejections)
    for record, identity in zip(parsed.records, fingerprints(parsed.records), strict=True):
        try:
            candidates.append(Candidate(record=record, fingerprint=identity, size=size_of(record)))
        except (InputError, UnreadableError) as error:
            rejections.append(Rejection(place=record.place, reason=str(error)))
    return SourceFile(name=name, digest=digest_bytes(content), form=parsed.form, candidates=candidates, rejections=rejections)


@contextmanager
def only_adoption(store: Store) -> Iterator[None]:
    """Hold the adoption lock: two concurrent adoptions would write the same trials twice."""
    folder = store.root / "locks"
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / "adopt.lock", timeout=0):
            yield
    except Timeout:
        raise InputError(f"STORE={store.root.name}: another adoption is writing to it; wait for its end.") from None


class Adoption:
    """Writer that adds the trials missing in a store."""

    def __init__(self, store: Store):
        self.store = store
        self._known: dict[str, dict[str, dict[str, object]]] = {}
        self._parents: dict[tuple[str, LegacyStudy], str] = {}

    def take(self, source: SourceFile) -> FileResult:
        """Adopt the trials of a file that the store does not contain yet."""
        adopted, known = [], []
        for candidate in source.candidates:
            experiment = experiment_of(candidate.record.study)
            there = self._adopted_in(experiment)
            if earlier := there.get(candidate.fingerprint):
                known.append(self._compare(candidate, source, earlier))
                continue
            run_id = self._write(candidate, source, experiment)
            there[candidate.fingerprint] = {**_facts(candidate), "run_id": run_id, schema.SOURCE_FILE: source.name}
            adopted.append(candidate)
        return FileResult(source=source, adopted=adopted, known=known)

    def _compare(self, candidate: Candidate, source: SourceFile, earlier: Mapping[str, object]) -> Known:
        """Compare a trial with its adopted run; tag the run if they differ."""
        differs = _differences(earlier, candidate)
        if differs:
            text = f"{source.name}, {candidate.record.place}: {'; '.join(differs)}"
            RunLog(self.store, str(earlier["run_id"])).tag(schema.DISPUTED, text)
        return Known(candidate=candidate, source=str(earlier[schema.SOURCE_FILE]), differs=differs)

    def _adopted_in(self, experiment: str) -> dict[str, dict[str, object]]:
        if experiment not in self._known:
            self._known[experiment] = self._read(experiment)
        return self._known[experiment]

    def _read(self, experiment: str) -> dict[str, dict[str, object]]:
        """Return adopted trials by fingerprint, after closing runs that a killed adoption left open.

        A run with an outcome lacks only its status. A run without one may lack its numbers and is adopted again.
        """
        found = {}
        for row in query.runs(self.store, kinds=("trial",), experiment=experiment).to_dict("records"):
            whole = row.get(schema.OUTCOME) == "adopted"
            if row["status"] == "RUNNING":
                reason = {} if whole else {schema.REASON: "its adoption was cut off"}
                RunLog(self.store, str(row["run_id"])).finish("adopted" if whole else "interrupted", tags=reason)
            if whole:
                found[str(row[schema.ADOPTED_FINGERPRINT])] = {str(name): value for name, value in row.items()}
        return found

    def _write(self, candidate: Candidate, source: SourceFile, experiment: str) -> str:
        record, size = candidate.record, candidate.size
        log = RunLog.start(
            self.store,
            experiment_id=self.store.experiment(experiment),
            kind="trial",
            name=_name(candidate),
            params=_params(candidate),
            tags={**self._provenance, **_tags(candidate), schema.SOURCE_FILE: source.name, schema.SOURCE_DIGEST: source.digest},
            parent_id=self._parent(record.study, experiment),
        )
        objective = {record.metric: record.value} if record.metric and record.value is not None else {}
        sizes = {"n_params": size.counted, "claimed_n_params": record.stated_size}
        known_sizes = {name: float(value) for name, value in sizes.items() if value is not None}
        log.finish("adopted", metrics={**record.metrics, **objective, **known_sizes})
        return log.run_id

    def _parent(self, study: LegacyStudy, experiment: str) -> str:
        key = (experiment, study)
        if key not in self._parents:
            self._parents[key] = self._open_parent(study, self.store.experiment(experiment))
        return self._parents[key]

    def _open_parent(self, study: LegacyStudy, experiment_id: str) -> str:
        """Return the run of the study. It only groups trials, so it is finished at once."""
        identity = fingerprint({"legacy_study": study.label, "task": study.task})
        found = query.runs_with_tag(self.store, experiment_id, schema.SWEEP_FINGERPRINT, identity, kinds=("sweep",))
        if found and found[0].status == "FINISHED":
            return found[0].run_id
        log = RunLog(self.store, found[0].run_id) if found else self._start_parent(study, experiment_id, identity)
        for name, value in _claims(study).items():
            # A killed adoption may have left the parent without its parameters.
            self.store.client.log_param(log.run_id, name, value)
        log.finish("adopted", tags={schema.NOTE: NOTE})
        return log.run_id

    def _start_parent(self, study: LegacyStudy, experiment_id: str, identity: str) -> RunLog:
        return RunLog.start(
            self.store,
            experiment_id=experiment_id,
            kind="sweep",
            name=study.label,
            params={},
            tags={**self._provenance, **_study_tags(study), schema.SWEEP_FINGERPRINT: identity},
        )

    @cached_property
    def _provenance(self) -> dict[str, str]:
        return provenance({}).tags(PROGRAM)


def experiment_of(study: LegacyStudy) -> str:
    """Return the experiment of a legacy study, separate from all native ones."""
    task = re.sub(r"[^a-z0-9]+", "-", (study.task or "unknown task").lower())
    return f"{schema.LEGACY_EXPERIMENT}{task[:100].strip('-')}"


def _name(candidate: Candidate) -> str:
    params = candidate.record.params
    letters = {"d_model": "d", "n_layers": "L", "n_heads": "h"}
    parts = [f"{letter}{params[name]}" for name, letter in letters.items() if name in params]
    if candidate.size.d_ff and "d_model" in params:
        parts.append(f"ff{candidate.size.d_ff / int(params['d_model']):g}")
    number = candidate.record.number
    return " ".join([*([] if number is None else [f"{number:04d}"]), *(parts or ["shape unknown"])])


def _params(candidate: Candidate) -> dict[str, Value]:
    record, d_ff = candidate.record, candidate.size.d_ff
    number = {} if record.number is None else {"number": record.number}
    return {**number, **_claims(record.study), **({"d_ff": d_ff} if d_ff else {}), **record.params}


def _claims(study: LegacyStudy) -> dict[str, Value]:
    return {"claimed_budget": study.budget} if study.budget else {}


def _study_tags(study: LegacyStudy) -> dict[str, str]:
    horizon = {} if study.horizon is None else {schema.CLAIMED_HORIZON: str(study.horizon)}
    return {schema.LEGACY_STUDY: study.label, **horizon}


def _tags(candidate: Candidate) -> dict[str, str]:
    record, size = candidate.record, candidate.size
    assumed = ", ".join((*record.assumed, *size.assumed))
    return {
        **_study_tags(record.study),
        **{name: text[:LONGEST_TEXT] for name, text in record.notes.items()},
        **({schema.LEGACY_METRIC: record.metric} if record.metric else {}),
        **({schema.ASSUMED: assumed} if assumed else {}),
        schema.ADOPTED_FINGERPRINT: candidate.fingerprint,
        schema.LEGACY_OUTCOME: record.outcome,
        schema.SIZE_CLAIM: size.claim,
        schema.SOURCE_PLACE: record.place,
    }


def _facts(candidate: Candidate) -> dict[str, Value]:
    """Return the settings in which two files may differ for the same trial."""
    stated = candidate.record.stated_size
    return {**_params(candidate), **({} if stated is None else {"claimed_n_params": stated})}


def _differences(earlier: Mapping[str, object], candidate: Candidate) -> tuple[str, ...]:
    """Return the settings that both files give with different values. NaN, unequal to itself, is a blank cell."""
    return tuple(
        f"{name} {there:.10g} there, {here} here" if isinstance(there, float) else f"{name} {there} there, {here} here"
        for name, here in _facts(candidate).items()
        if (there := earlier.get(name)) is not None and there == there and there != here
    )
