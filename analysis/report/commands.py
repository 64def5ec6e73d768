"""Settings of a sweep as variables of `make`: all of them, or those that differ from the defaults."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from typing import Any

from analysis.report.inputs import ReportInputs, ReportQuestion
from research.spec import TRANSFORMER
from research.tracking import schema

VARIABLES = {
    "symbol": "SYMBOLS",
    "validate_on": "VALIDATE_ON",
    "feature_set": "FEATURES",
    "index": "INDEX",
    "volatility_index": "VOLATILITY_INDEX",
    "task": "TASK",
    "threshold": "THRESHOLD",
    "touch": "TOUCH",
    "context_length": "CONTEXT",
    "train_windows": "WINDOWS",
    "windows_from": "WINDOWS_FROM",
    "train_end": "TRAIN_END",
    "validation_end": "VALIDATION_END",
    "test_end": "TEST_END",
    "epochs": "EPOCHS",
    "patience": "PATIENCE",
    "seed": "SEED",
    "sampler": "SAMPLER",
    "pruner": "PRUNER",
    "optimizer": "OPTIMIZER",
    "base_width": "WIDTH_TRANSFER",
}
"""Parameter of a sweep -> variable of `make sweep` that sets it."""
RANGES = {
    "search_learning_rate": "learning-rate",
    "search_weight_decay": "weight-decay",
    "search_dropout": "dropout",
    "search_batch_size": "batch-sizes",
    "random_share": "random-share",
}
"""Parameter of a sweep -> flag that sets it."""
SWITCHES = {"window_norm": "--window-norm", "symbol_embedding": "--symbol-embedding"}
"""Parameter of a sweep that is true -> flag that sets it."""
NARROWED = ("layers", "widths", "heads")
"""Parts of the budget's grid that a sweep may replace; its parameters have the prefix `search_`."""
DATA_DEFAULTS = {
    "SYMBOLS": "^GSPC",
    "VALIDATE_ON": "^GSPC",
    "TRAIN_END": "2011-12-31",
    "VALIDATION_END": "2015-06-30",
    "TEST_END": "2018-12-31",
}
"""Defaults of `make sweep` for the bundled data."""
DEFAULTS = {
    "FEATURES": "a25s",
    "TASK": "threshold",
    "THRESHOLD": "0.01",
    "TOUCH": "high",
    "CONTEXT": "60",
    "WINDOWS_FROM": "recent",
    "EPOCHS": "20",
    "PATIENCE": "6",
    "SAMPLER": "tpe",
    "OPTIMIZER": "adamw",
    "TRIALS": "12",
    "ARGS": "--learning-rate 0.0001 0.01 --weight-decay 0.0001 0.3 --dropout 0.0 0.4 --batch-sizes 64 128 256 "
    "--random-share 0.4",
}
"""Defaults for any data; suggested commands leave them out."""
UNSET = ("none", "all", "", "nan", "0")
"""Values of a parameter that is not set."""


def bundled_digests(inputs: ReportInputs) -> set[str]:
    """Return the digests of the snapshots that a fresh clone has."""
    return {str(run[schema.SNAPSHOT_DIGEST]) for _, run in inputs.snapshots.iterrows() if run["source"] == "bundled"}


def settings_of(question: ReportQuestion, run: Any, bundled: Collection[str]) -> dict[str, str]:
    """Return every setting of a sweep, defaults included: defaults may change."""
    digest = str(run[schema.SNAPSHOT_DIGEST])
    last = json.loads(str(run[schema.STARTS]))[-1]
    family = str(run["family"])
    replicates = max((loss.fresh_seeds for loss in question.sure if loss.budget == run["budget"]), default=0)
    ranges = [f"--{flag} {str(run[name]).replace(' .. ', ' ')}" for name, flag in RANGES.items()]
    switches = [flag for name, flag in SWITCHES.items() if name in run and str(run[name]) == "True"]
    named = [f"--family {family}"] if family != TRANSFORMER else []
    return {
        "DATA": "bundled" if digest in bundled else digest,
        **{VARIABLES[name]: str(run[name]) for name in VARIABLES if name in run and str(run[name]) not in UNSET},
        **{name.upper(): str(last[f"search_{name}"]) for name in NARROWED if f"search_{name}" in last},
        "TRIALS": str(last["trials"]),
        **({"REPLICATES": str(replicates)} if replicates else {}),
        "ARGS": " ".join([*ranges, *switches, *named]),
    }


def differing(settings: Mapping[str, str]) -> dict[str, str]:
    """Return the settings that `make sweep` needs: without them it would run another question, other data or another search."""
    usual = {"DATA": "bundled", **DATA_DEFAULTS, **DEFAULTS} if settings.get("DATA") == "bundled" else DEFAULTS
    return {name: value for name, value in settings.items() if usual.get(name) != value}


def as_words(settings: Mapping[str, str]) -> str:
    """Return the settings as they are typed after a verb."""
    return " ".join(f"{name}='{value}'" if set(value) & set(" ^,") else f"{name}={value}" for name, value in settings.items())
