"""A store that a test fills with runs as a sweep would leave them, predictions included, without training anything."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from analysis.results.frontier import SETTING
from research.tracking import schema
from research.tracking.run_writer import RunLog
from research.tracking.store import Store

DAYS = 400
BASE_RATE_LOSS = 0.69
Params = dict[str, str | int | float]
_DIGESTS: Params = {
    name: "the same" for name in (*SETTING, "feature_set", "symbol", "train_windows") if name != "context_length"
}


def add_run(
    store: Store,
    name: str,
    *,
    loss: float,
    kind: schema.RunKind = "trial",
    budget: str = "2K",
    horizon: int = 1,
    by: str = "tpe",
    outcome: schema.Outcome = "complete",
    shape: Sequence[int] = (2, 4, 1, 8),
    learning_rate: float = 1e-3,
    seed: int = 0,
    skilful: float = 0.0,
    context: int = 60,
) -> str:
    """One finished run with the mean loss `loss`; `skilful` adds a signal to its daily losses that leaves their mean."""
    configuration = f"{budget} {horizon} {context} {kind if kind == 'baseline' else ''} {name}"
    experiment = store.experiment("sp500-threshold-1pct")
    tags = {
        schema.STUDY_FINGERPRINT: f"study of {horizon}",
        schema.TRIAL_FINGERPRINT: f"{configuration} {seed} {kind}",
        schema.CONFIG_FINGERPRINT: configuration,
        schema.ALARM: "none",
        schema.PROPOSED_BY: by,
    }
    layers, width, heads, d_ff = shape
    searched: Params = {"n_layers": layers, "d_model": width, "n_heads": heads, "d_ff": d_ff, "learning_rate": learning_rate}
    rest: Params = {"dropout": 0.1, "weight_decay": 0.01, "warmup_steps": 10, "batch_size": 64, "seed": seed}
    question: Params = {"context_length": context, "horizon": horizon, "budget": budget, "n_train_windows": 3012}
    params: Params = {**_DIGESTS, schema.TARGET_DIGEST: f"labels of {horizon}", **question}
    params.update({"baseline": name} if kind == "baseline" else {**searched, **rest})
    log = RunLog.start(store, experiment_id=experiment, kind=kind, name=name, params=params, tags=tags)
    if outcome != "complete":
        log.finish(outcome)
        return log.run_id
    log.artifacts(lambda folder: predictions(loss, horizon, skilful).to_parquet(folder / schema.PREDICTIONS_FILE))
    for epoch in (1, 2):
        for curve in ("train_loss", "val_loss"):
            log.metric(f"{schema.EPOCH_PREFIX}{curve}", loss + 0.1 / epoch, step=epoch)
    size = 0 if kind == "baseline" else int(budget.removesuffix("K")) * 1000
    metrics = {"val_loss": loss, "n_params": size, "val_skill": 1 - loss / BASE_RATE_LOSS, "val_auc": 0.7, "val_auc_se": 0.02}
    log.finish("complete", metrics={**metrics, "val_base_rate_loss": BASE_RATE_LOSS, "n_effective_windows": 900.0})
    return log.run_id


def predictions(loss: float, horizon: int, skilful: float) -> pd.DataFrame:
    """Daily losses around a mean; days and labels are the same for every run of a horizon."""
    rng = np.random.default_rng(horizon)
    label = rng.integers(0, 2, DAYS)
    wave: NDArray[np.float64] = rng.normal(0, 0.05, DAYS) + skilful * np.sin(np.arange(DAYS))
    probability = np.clip(0.5 + 0.3 * (label - 0.5) + rng.normal(0, 0.1, DAYS), 0.01, 0.99)
    days = pd.bdate_range(date(2012, 1, 3), periods=DAYS)
    return pd.DataFrame({"date": days, "label": label, "probability": probability, "loss": loss + wave - wave.mean()})


def add_sweep(store: Store, *, budget: str = "2K", horizon: int = 1, outcome: schema.Outcome | None = "complete") -> str:
    """The parent run of a sweep, still running without an outcome."""
    about = {
        "budget": budget,
        "horizon": horizon,
        "family": "transformer",
        "context_length": 60,
        "task": "threshold",
        "threshold": 0.01,
        "epochs": 4,
    }
    dates = {"train_end": "2011-12-31", "validation_end": "2015-06-30", "test_end": "2018-12-31", "random_share": 0.4}
    log = RunLog.start(
        store,
        experiment_id=store.experiment("sp500-threshold-1pct"),
        kind="sweep",
        name=f"{budget}-h{horizon}",
        params={**about, **dates, **{f"search_{name}": "1 .. 2" for name in RANGES}, "symbol": "^GSPC", "touch": "high"},
        tags={
            schema.STUDY_FINGERPRINT: f"study of {horizon}",
            schema.SNAPSHOT_DIGEST: "0123456789abcdef",
            schema.FEATURE_DIGEST: "features",
            schema.TARGET_DIGEST: f"labels of {horizon}",
            schema.GIT_COMMIT: "c0ffee",
            schema.GIT_DIRTY: "false",
            schema.STARTS: '[{"trials": 12, "search_layers": "1,2"}]',
        },
    )
    if outcome:
        counts = {"train_n": 3012.0, "validation_n": DAYS, "validation_positives": 100, "validation_base_rate": 0.25}
        log.finish(outcome, metrics={f"{schema.SWEEP_PREFIX}{name}": value for name, value in counts.items()})
    return log.run_id


RANGES = ("learning_rate", "weight_decay", "dropout", "batch_size")
