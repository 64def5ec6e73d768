"""What makes an experiment *this* experiment: frozen values and their fingerprints.

Every field here is identity. Anything that may change without changing the result's meaning (device,
threads, micro-batch, paths) lives in `research.runtime` and is never fingerprinted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, field, replace
from datetime import date
from typing import ClassVar, Literal, get_args

from research.errors import require
from research.fingerprint import STORED_AS, added, fingerprint

TargetKind = Literal["threshold", "downside", "end", "direction"]
Touch = Literal["high", "low", "close"]
WindowsFrom = Literal["recent", "everywhere"]
WINDOWS_FROM: tuple[WindowsFrom, ...] = get_args(WindowsFrom)
OptimizerName = Literal["adamw", "adafactor"]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)


@dataclass(frozen=True, kw_only=True)
class TargetQuestion:
    """Kind of target; `research.task.targets.CONDITIONS` holds the condition of each."""

    touches: tuple[Touch, ...]
    """Prices that it may watch, its default first."""
    words: str
    """The question, with `{touch}`, `{move}` and `{sessions}` where they stand."""
    has_threshold: bool = True
    """Whether a relative move is part of it."""


QUESTIONS: dict[TargetKind, TargetQuestion] = {
    "threshold": TargetQuestion(touches=("high", "close"), words="does the {touch} touch +{move} within {sessions}?"),
    "downside": TargetQuestion(touches=("low", "close"), words="does the {touch} touch -{move} within {sessions}?"),
    "end": TargetQuestion(touches=("close",), words="is the close up {move} or more after {sessions}?"),
    "direction": TargetQuestion(touches=("close",), words="is the close higher after {sessions}?", has_threshold=False),
}

TRANSFORMER = "transformer"
"""Family of the models that are meant where none is named."""


@dataclass(frozen=True, kw_only=True)
class DataSpec:
    """Which bytes: one or several instruments of one immutable snapshot."""

    snapshot_digest: str
    """Content digest of the snapshot (canonical OHLCV of all its symbols)."""
    symbols: tuple[str, ...]
    """Instruments whose windows are trained on, for example `^GSPC`."""
    validate_on: tuple[str, ...]
    """Instruments that validation and test look at; the same ones unless a study varies the data it trains on."""

    def __post_init__(self) -> None:
        names = ",".join(self.symbols)
        require(bool(self.symbols), "SYMBOLS", names, "give at least one instrument.")
        require(len(set(self.symbols)) == len(self.symbols), "SYMBOLS", names, "give each instrument once.")
        absent = set(self.validate_on) - set(self.symbols)
        fix = f"give instruments that are trained on: {names}."
        require(bool(self.validate_on) and not absent, "VALIDATE_ON", ",".join(self.validate_on), fix)
        object.__setattr__(self, "validate_on", tuple(name for name in self.symbols if name in self.validate_on))

    @property
    def title(self) -> str:
        """The instruments as one text, as runs name them."""
        return ",".join(self.symbols)


@dataclass(frozen=True, kw_only=True)
class FeatureSpec:
    """Which columns: a named, versioned feature set."""

    feature_set: str
    """`a25` (raw), `a25s` (stationary) or a wider stationary one."""
    version: int
    """Version of the set's definitions; a changed formula gets a new one."""
    index: str = ""
    """Instrument that cross-asset features compare with; none if empty."""
    volatility_index: str = ""
    """Instrument whose level cross-asset features take as implied volatility; none if empty."""


@dataclass(frozen=True, kw_only=True)
class TargetSpec:
    """The question: where does the price go within `horizon` sessions after the close of day t."""

    horizon: int
    """Sessions ahead, at least 1. Labels, purge and digest all follow from this one number."""
    kind: TargetKind = "threshold"
    """`threshold`: the price touches close[t] * (1 + threshold). `downside`: it touches close[t] * (1 - threshold).
    `end`: the last close is at or above close[t] * (1 + threshold). `direction`: the last close is above close[t]."""
    threshold: float = 0.01
    """Relative move, 0.01 = 1%. `direction` has none: 0 whatever is given, so that equal questions are equal specs."""
    touch: Touch | Literal["auto"] = "auto"
    """Price that is watched: `threshold` has high or close, `downside` low or close, the others the close. `auto` becomes
    the first of them."""
    shuffled: int | None = None
    """Seed of a permutation of the known labels, the negative control: nothing can be learned. Not shuffled if None."""

    def __post_init__(self) -> None:
        require(self.horizon >= 1, "HORIZON", self.horizon, "give a whole number of sessions, 1 or more.")
        require(self.kind in QUESTIONS, "TASK", self.kind, f"give {', '.join(QUESTIONS)}.")
        question = QUESTIONS[self.kind]
        if not question.has_threshold:
            object.__setattr__(self, "threshold", 0.0)
        else:
            require(0 < self.threshold < 1, "THRESHOLD", self.threshold, "give a fraction between 0 and 1, 0.01 is 1%.")
        if self.touch == "auto":
            object.__setattr__(self, "touch", question.touches[0])
        require(
            self.touch in question.touches,
            "TOUCH",
            self.touch,
            f"give {' or '.join(question.touches)}, what {self.kind} watches.",
        )
        require(self.shuffled is None or self.shuffled >= 0, "SHUFFLED", self.shuffled, "give a seed, 0 or more.")

    @property
    def name(self) -> str:
        """Name of the task without its horizon, for example `threshold-1pct`."""
        question = QUESTIONS[self.kind]
        move = [f"{self.threshold * 100:g}pct"] if question.has_threshold else []
        touch = [] if self.touch == question.touches[0] else [self.touch]
        return "-".join([self.kind, *move, *touch, *([] if self.shuffled is None else ["shuffled"])])

    @property
    def question(self) -> str:
        """The question in words, for example `does the high touch +1% within 3 sessions?`."""
        sessions = "1 session" if self.horizon == 1 else f"{self.horizon} sessions"
        move = f"{self.threshold * 100:g}%"
        words = QUESTIONS[self.kind].words.format(touch=self.touch, move=move, sessions=sessions)
        return words if self.shuffled is None else f"{words} (shuffled labels)"


@dataclass(frozen=True, kw_only=True)
class SplitSpec:
    """Chronological holdout by date. Days are label days; purging by label interval happens on top."""

    train_end: date
    """Last day of a training label."""
    validation_end: date
    """Last validation day; validation starts on the session after `train_end`."""
    test_end: date
    """Last test day; the test starts on the session after `validation_end` and is opened once."""
    embargo: int = 0
    """Sessions dropped before each border on top of the purge of `horizon` sessions."""
    train_windows: int | None = None
    """Training windows to take of those there are; all if None."""
    windows_from: WindowsFrom = "recent"
    """`recent`: the newest days. `everywhere`: any days of the history, the same choice for everyone; a smaller number of
    windows is part of a larger one either way. `recent` whatever is given where all windows are taken."""

    def __post_init__(self) -> None:
        ordered = self.train_end < self.validation_end < self.test_end
        require(
            ordered,
            "SPLIT",
            f"{self.train_end}, {self.validation_end}, {self.test_end}",
            "give train, validation and test ends in this order.",
        )
        require(self.embargo >= 0, "EMBARGO", self.embargo, "give 0 or more sessions.")
        require(self.train_windows is None or self.train_windows >= 1, "WINDOWS", self.train_windows, "give 1 or more.")
        require(self.windows_from in WINDOWS_FROM, "WINDOWS_FROM", self.windows_from, f"give {' or '.join(WINDOWS_FROM)}.")
        if self.train_windows is None:
            object.__setattr__(self, "windows_from", "recent")


@dataclass(frozen=True, kw_only=True)
class ArchitectureSpec:
    """One shape of one family of models. Its parameter count follows from these fields alone."""

    d_model: int
    """Width of the residual stream."""
    n_layers: int
    """Number of blocks."""
    n_heads: int
    """Attention heads; divides `d_model`."""
    d_ff: int
    """Hidden width of the feed-forward part."""
    context_length: int = 60
    """Days a window sees, the predicted day last."""
    patch_length: int = 10
    """Days per token."""
    patch_stride: int = 5
    """Days between the starts of two tokens; tokens are aligned to the newest day."""
    n_features: int = 25
    """Feature columns."""
    window_norm: bool = False
    """Normalise each window by its own mean and scale, and feed the removed level back in."""
    n_symbols: int = 0
    """Instruments that have a learned embedding; 0 makes the model blind to which instrument it sees."""
    family: str = added(TRANSFORMER)
    """What its blocks are: a name in `research.models.families.FAMILIES`."""

    def __post_init__(self) -> None:
        for name in ("d_model", "n_layers", "n_heads", "d_ff", "patch_length", "patch_stride", "n_features"):
            require(getattr(self, name) >= 1, name, getattr(self, name), "give a positive whole number.")
        require(self.d_model % self.n_heads == 0, "n_heads", self.n_heads, f"must divide d_model={self.d_model}.")
        require(
            self.context_length >= self.patch_length,
            "CONTEXT",
            self.context_length,
            f"give at least one patch of {self.patch_length} days.",
        )
        require(self.n_symbols >= 0, "n_symbols", self.n_symbols, "give 0 or more.")

    @property
    def n_patches(self) -> int:
        """Tokens per window; the oldest days that fill no whole patch are dropped."""
        return (self.context_length - self.patch_length) // self.patch_stride + 1

    @property
    def label(self) -> str:
        """Short name for tables and run names, for example `d64 L48 h8 ff4`; another family's name stands before it."""
        family = "" if self.family == TRANSFORMER else f"{self.family} "
        return f"{family}d{self.d_model} L{self.n_layers} h{self.n_heads} ff{self.d_ff / self.d_model:g}"


@dataclass(frozen=True, kw_only=True)
class TrainingSpec:
    """How a model is fitted."""

    learning_rate: float
    """Peak AdamW learning rate, after warm-up."""
    weight_decay: float
    """Decoupled decay, on matrices only."""
    dropout: float
    """Probability, on the embedding and on both residual branches of every block."""
    warmup_steps: int
    """Optimizer steps of linear warm-up."""
    batch_size: int
    """Windows per optimizer step, whatever the micro-batch is."""
    epochs: int
    """The only limit on training length besides patience."""
    patience: int
    """Epochs without a better validation loss before stopping."""
    seed: int
    """Initial weights, data order and dropout."""
    gradient_clip: float = 1.0
    """Maximum global gradient norm."""
    base_width: int = 0
    """Width at which the learning rate is meant. In a model of width d the matrices that read its width are trained at
    learning_rate * base_width / d and attention scores are scaled accordingly (`research.training.optim`), so that a rate
    that is right at one width is about right at another. 0 = off: the same rate for all weights at every width."""
    optimizer: OptimizerName = "adamw"
    """`adamw`, or `adafactor` to train in low memory (`research.training.low_memory`): 2 bytes a weight in place of 16.
    `gradient_clip` is then the largest root mean square that the update of one parameter has before the rate."""

    def __post_init__(self) -> None:
        require(0 < self.learning_rate < math.inf, "learning_rate", self.learning_rate, "give a positive number.")
        require(self.weight_decay >= 0, "weight_decay", self.weight_decay, "give 0 or more.")
        require(0 <= self.dropout < 1, "dropout", self.dropout, "give a probability below 1.")
        require(self.warmup_steps >= 0, "warmup_steps", self.warmup_steps, "give 0 or more steps.")
        require(self.batch_size >= 1, "batch_size", self.batch_size, "give 1 or more windows.")
        require(self.epochs >= 1, "EPOCHS", self.epochs, "give 1 or more.")
        require(self.patience >= 1, "PATIENCE", self.patience, "give 1 or more epochs.")
        require(self.gradient_clip > 0, "gradient_clip", self.gradient_clip, "give a positive norm.")
        require(self.optimizer in OPTIMIZERS, "OPTIMIZER", self.optimizer, f"give {' or '.join(OPTIMIZERS)}.")
        require(self.base_width >= 0, "WIDTH_TRANSFER", self.base_width, "give a width such as 64, or 0 for none.")


@dataclass(frozen=True, kw_only=True)
class TaskSpec:
    """What all trials of one sweep share: data, features, question, split."""

    STORED_NAME: ClassVar[str] = "StudySpec"

    data: DataSpec
    features: FeatureSpec
    target: TargetSpec
    split: SplitSpec


@dataclass(frozen=True, kw_only=True)
class TrialSpec:
    """One model trained once: everything its validation loss depends on."""

    task: TaskSpec = field(metadata={STORED_AS: "study"})
    architecture: ArchitectureSpec
    training: TrainingSpec

    @property
    def fingerprint(self) -> str:
        """Equal for two trials that would give the same result."""
        return fingerprint(self)

    @property
    def config_fingerprint(self) -> str:
        """The same for all seeds of one configuration, so that replicates group."""
        return fingerprint(replace(self, training=replace(self.training, seed=0)))


@dataclass(frozen=True, kw_only=True)
class BaselineSpec:
    """A reference model on the same rows as the trials."""

    task: TaskSpec = field(metadata={STORED_AS: "study"})
    baseline: str
    """Name in `research.models.baselines.BASELINES`."""
    version: int
    """Version of its definition."""
    context_length: int
    """Days that a trial's window sees: a longer one has fewer training rows, and the baseline has the same."""

    @property
    def fingerprint(self) -> str:
        """Equal for two baselines that would give the same result."""
        return fingerprint(self)
