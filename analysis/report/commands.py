"""How a sweep was started, in words that `make` takes: all of them to do it again, or those that are no default."""

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
"""Parameter of a sweep that is true -> flag that made it so."""
NARROWED = ("layers", "widths", "heads")
"""What a sweep may search instead of the budget's grid; its parameters are these with `search_` before them."""
DATA_DEFAULTS = {
    "SYMBOLS": "^GSPC",
    "VALIDATE_ON": "^GSPC",
    "TRAIN_END": "2011-12-31",
    "VALIDATION_END": "2015-06-30",
    "TEST_END": "2018-12-31",
}
"""What `make sweep` takes for the bundled data, where nothing is said."""
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
"""What it takes for any data; the commands of `What to run next` are short where they say nothing else."""
UNSET = ("none", "all", "", "nan", "0")
"""Values that a variable has when it is not given."""


def bundled_digests(sources: ReportInputs) -> set[str]:
    """Of the snapshots that a fresh clone has."""
    return {str(run[schema.SNAPSHOT_DIGEST]) for _, run in sources.snapshots.iterrows() if run["source"] == "bundled"}


def settings_of(one: ReportQuestion, run: Any, bundled: Collection[str]) -> dict[str, str]:
    """Everything that was set or had a default then: defaults may change."""
    digest = str(run[schema.SNAPSHOT_DIGEST])
    last = json.loads(str(run[schema.STARTS]))[-1]
    # Sweeps of earlier versions do not say it.
    family = str(run["family"]) if "family" in run and run["family"] == run["family"] else TRANSFORMER
    replicates = max((each.fresh_seeds for each in one.sure if each.budget == run["budget"]), default=0)
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
    """Those that `make sweep` must be told: without them it would ask another question, of other data or in another search."""
    usual = {"DATA": "bundled", **DATA_DEFAULTS, **DEFAULTS} if settings.get("DATA") == "bundled" else DEFAULTS
    return {name: value for name, value in settings.items() if usual.get(name) != value}


def as_words(settings: Mapping[str, str]) -> str:
    """As they are typed behind a verb."""
    return " ".join(f"{name}='{value}'" if set(value) & set(" ^,") else f"{name}={value}" for name, value in settings.items())
