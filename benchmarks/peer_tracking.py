"""What our tracking is compared with, as scripts of their own: MLflow's fluent state and Optuna's storages stay in here.

Run as `python -m benchmarks.peer_tracking NAME FOLDER TRIALS`; prints seconds, of a trial the median.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import warnings
from collections.abc import Callable, Mapping
from pathlib import Path

import mlflow
import optuna
from mlflow import MlflowClient

from benchmarks.harness import (
    ARTIFACTS,
    CURVES,
    EPOCHS,
    PARAMS,
    TAGS,
    curve_value,
    objective,
    sampler,
    suggest,
    timed,
    typical,
    write_artifacts,
)


def fluent(folder: Path, trials: int) -> float:
    """A plain MLflow script that logs after every epoch."""
    files = Path(tempfile.mkdtemp(dir=folder))
    write_artifacts(files)

    def trial(number: int) -> None:
        with mlflow.start_run(run_name=f"{number:04d}"):
            mlflow.log_params(PARAMS)
            mlflow.set_tags(TAGS)
            _log_epochs(files)

    return typical(trial, trials)


def _log_epochs(files: Path) -> None:
    for epoch in range(EPOCHS):
        mlflow.log_metrics({name: curve_value(name, epoch) for name in CURVES}, step=epoch)
    for name in ARTIFACTS:
        mlflow.log_artifact(str(files / name))


def optuna_callback(folder: Path, trials: int) -> float:
    """Optuna's SQLite storage with the MLflow callback, on trials that log no curve."""
    return _optimize(folder, trials, lambda _: None)


def optuna_callback_curves(folder: Path, trials: int) -> float:
    """The same, and each trial logs its curves and files into its run as `track_in_mlflow` lets it."""
    files = Path(tempfile.mkdtemp(dir=folder))
    write_artifacts(files)

    def log(number: int) -> None:
        with mlflow.start_run(run_name=str(number)) as run:
            mlflow.log_params(PARAMS)
            _log_epochs(files)
        open_runs[number] = run.info.run_id

    open_runs: dict[int, str] = {}
    return _optimize(folder, trials, log, open_runs)


def _optimize(folder: Path, trials: int, during: Callable[[int], None], open_runs: Mapping[int, str] | None = None) -> float:
    study = optuna.create_study(study_name="reference", storage=f"sqlite:///{folder / 'optuna.db'}", sampler=sampler())

    def callback(study: optuna.Study, trial: optuna.trial.FrozenTrial) -> None:
        # The calls of optuna-integration's MLflowCallback, which is no dependency of ours.
        mlflow.set_experiment(study.study_name)
        described = {f"{name}_distribution": str(one) for name, one in trial.distributions.items()}
        times = {"datetime_start": str(trial.datetime_start), "datetime_complete": str(trial.datetime_complete)}
        value = trial.value
        assert value is not None
        with mlflow.start_run(run_id=(open_runs or {}).get(trial.number), run_name=str(trial.number)):
            mlflow.log_metrics({"value": value})
            mlflow.log_params(trial.params)
            mlflow.set_tags(
                {"number": str(trial.number), **times, "state": trial.state.name, "direction": "MINIMIZE", **described}
            )

    def work(trial: optuna.Trial) -> float:
        value = objective(suggest(trial))
        during(trial.number)
        return value

    return typical(lambda _: study.optimize(work, n_trials=1, callbacks=[callback]), trials)


def mlflow_storage(folder: Path, trials: int) -> float:
    """MLflow's own Optuna storage."""
    from mlflow.optuna.storage import MlflowStorage

    experiment = MlflowClient().create_experiment("storage", artifact_location=(folder / "storage").as_uri())
    study = optuna.create_study(storage=MlflowStorage(experiment_id=experiment), study_name="storage", sampler=sampler())

    def trial(_: int) -> None:
        asked = study.ask()
        study.tell(asked, objective(suggest(asked)))

    return typical(trial, trials)


def search_runs(_: Path, __: int) -> float:
    """Reading all runs of a store into pandas."""
    return timed(lambda: mlflow.search_runs(search_all_experiments=True))


REFERENCES: dict[str, Callable[[Path, int], float]] = {
    "fluent": fluent,
    "optuna_callback": optuna_callback,
    "optuna_callback_curves": optuna_callback_curves,
    "mlflow_storage": mlflow_storage,
    "search_runs": search_runs,
}


def main(name: str, folder: Path, trials: int) -> None:
    """Measure one reference on the store that lies in the folder."""
    warnings.simplefilter("ignore")
    logging.disable(logging.WARNING)
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    experiment = MlflowClient().create_experiment("reference", artifact_location=(folder / "reference").as_uri())
    mlflow.set_experiment(experiment_id=experiment)
    print(REFERENCES[name](folder, trials))


if __name__ == "__main__":
    os.environ["MLFLOW_TRACKING_URI"] = ""
    main(sys.argv[1], Path(sys.argv[2]), int(sys.argv[3]))
