"""Training in two bytes per weight: bfloat16 with stochastic rounding, factored second moments, updates inside backward.

AdamW keeps sixteen bytes per weight: weight, gradient and two moments. Here a matrix is stored in bfloat16. Its second moment
is a product of row and column moments, without a first moment (Adafactor, Shazeer & Stern 2018). Each parameter is updated as
soon as its gradient is complete, and the gradient is freed at once (LOMO, Lv et al. 2023). Most updates are smaller than half
the distance between two bfloat16 numbers, and rounding to the nearest would lose them. Stochastic rounding keeps them in the
mean (Gupta et al. 2015).

As in AdamW, and unlike in the paper, the learning rate is absolute and decay is decoupled, so that both mean the same.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from typing import Any

import torch
from torch import Tensor

from research.models.families import family_of
from research.models.kernels.attention_dispatch import kernel_for
from research.models.patch_transformer import PatchTransformer, keep_as
from research.spec import ArchitectureSpec, TrainingSpec
from research.training.optim import build_optimizer

STORED = torch.bfloat16
"""Storage type of matrices; vectors (norms, biases) stay float32, since they are small."""
DECAY_EXPONENT = 0.8
"""Exponent of the decay of the mean of squares: step t replaces a share t^-0.8 (Shazeer & Stern 2018, 7.2)."""
LEAST_SQUARE = 1e-30
"""Lower bound of a mean square, so that a zero gradient gives a zero update."""
AT_ONCE = 32_768
"""Numbers processed at once on a CPU: they stay in its cache and are too few for torch to start threads."""
HIGH_HALF = -(2**16)
"""Mask of the float32 bits that bfloat16 keeps."""
NO_PARAMETER = -1
"""Index in a state dict of values without a parameter: the random state of the rounding."""


def low_memory_model(architecture: ArchitectureSpec, dropout: float, *, base_width: int = 0) -> PatchTransformer:
    """Return a freshly initialised low-memory model: the float32 model rounded, without ever holding it in float32."""
    return to_low_memory(PatchTransformer(architecture, dropout, base_width=base_width, stored=STORED))


def to_low_memory(model: PatchTransformer) -> PatchTransformer:
    """Convert a model's matrices to bfloat16, in place, and recompute its blocks in backward."""
    keep_as(STORED, *(parameter for parameter in model.parameters() if parameter.ndim >= 2))
    # Otherwise all widened weights would be kept for backward.
    model.recompute = True
    a = model.architecture
    for dtype in (torch.float32, torch.bfloat16) if family_of(a).attends else ():
        # Choose the kernel now: a probe inside a block would run in its first computation and not in the recomputation.
        kernel_for(torch.empty(1, a.n_patches, 3, a.n_heads, a.d_model // a.n_heads, dtype=dtype))
    return model


class Adafactor(torch.optim.Optimizer):
    """Adafactor without first moment; parameters stored in bfloat16 are rounded stochastically.

    With `fused`, parameters are updated during the backward pass and `step` has nothing left to do. There must then be one
    backward pass per step, over the whole batch, and the rate must be set before it.
    """

    def __init__(
        self,
        parameters: Iterable[tuple[str, Tensor]],
        spec: TrainingSpec,
        architecture: ArchitectureSpec,
        *,
        fused: bool = True,
    ):
        # The same groups as AdamW, with their decay and their multiple of the rate.
        groups = build_optimizer(parameters, spec, architecture).param_groups
        options = {"params", "lr", "lr_scale", "weight_decay"}
        super().__init__([{k: v for k, v in group.items() if k in options} for group in groups], {})
        self._clip = spec.gradient_clip
        self._parameters: list[Tensor] = [p for group in self.param_groups for p in group["params"]]
        self._group = {p: group for group in self.param_groups for p in group["params"]}
        device = self._parameters[0].device
        self._noise = torch.Generator(device).manual_seed(spec.seed)
        self._squares = torch.zeros((), device=device)
        for p in self._parameters:
            self.state[p] = _initial_state(p)
            if fused:
                p.register_post_accumulate_grad_hook(self._update)  # type: ignore[no-untyped-call]

    def step(self, closure: None = None) -> None:  # type: ignore[override]
        """Update every parameter that still has a gradient."""
        for p in self._parameters:
            if p.grad is not None:
                self._update(p)

    def gradient_norm(self) -> Tensor:
        """Return the norm of all gradients since the last call; they never exist at the same time."""
        norm = self._squares.sqrt()
        self._squares = torch.zeros_like(norm)
        return norm

    def state_dict(self) -> dict[str, Any]:
        """Return the moments of every parameter and the random state of the rounding."""
        state_dict = super().state_dict()
        state_dict["state"][NO_PARAMETER] = {"noise": self._noise.get_state()}
        return state_dict

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Load a state unchanged; torch's own method would round moments to the type of their parameter."""
        for index, values in state_dict["state"].items():
            if index == NO_PARAMETER:
                self._noise.set_state(values["noise"])
            else:
                p = self._parameters[index]
                self.state[p] = {name: value.to(p.device, copy=True) for name, value in values.items()}

    @torch.no_grad()
    def _update(self, p: Tensor) -> None:
        assert p.grad is not None
        gradient, p.grad = p.grad, None
        group, state = self._group[p], self.state[p]
        state["step"] += 1
        replaced = float(state["step"]) ** -DECAY_EXPONENT
        kept = 1 - group["lr"] * group["weight_decay"]
        if p.ndim == 1:
            update, squares = _vector_update(gradient, state["squares"], replaced, self._clip)
            p.mul_(kept).sub_(update.mul_(group["lr"]))
        else:
            scales, squares = _matrix_update(gradient, state, replaced, self._clip)
            _add_product(p, gradient, scales[0].mul_(-group["lr"]), scales[1], kept, self._noise)
        self._squares += squares


def _initial_state(p: Tensor) -> dict[str, Tensor]:
    """Return the state of a parameter before the first step; the step count is on the CPU, where it is read."""
    state = {"step": torch.zeros(())}
    if p.ndim == 1:
        return {**state, "squares": torch.zeros_like(p)}
    rows, columns = (torch.zeros(size, device=p.device) for size in p.shape)
    return {**state, "rows": rows, "columns": columns}


def _vector_update(gradient: Tensor, mean: Tensor, replaced: float, clip: float) -> tuple[Tensor, Tensor]:
    """Return the update divided by the rate, and the gradient's sum of squares; `mean` is updated in place."""
    squares = gradient.square()
    update = gradient * _inverse_root(mean.lerp_(squares, replaced))
    return update.div_(_excess(update.square().mean(), clip)), squares.sum()


def _matrix_update(
    gradient: Tensor, state: dict[str, Tensor], replaced: float, clip: float
) -> tuple[tuple[Tensor, Tensor], Tensor]:
    """Return scales per row and column that turn the gradient into the update divided by the rate, and its sum of squares.

    The second moment of an entry is that of its row times that of its column, divided by the mean of all rows.
    """
    rows, columns = _mean_squares(gradient)
    mean_rows, mean_columns = state["rows"].lerp_(rows, replaced), state["columns"].lerp_(columns, replaced)
    row_scale = _inverse_root(mean_rows / mean_rows.mean().clamp(min=LEAST_SQUARE))
    column_scale = _inverse_root(mean_columns)
    updates = [part.float().square() @ column_scale.square() for (part,) in _parts(gradient)]
    mean_update = (torch.cat(updates) @ row_scale.square()) / gradient.numel()
    return (row_scale.div_(_excess(mean_update, clip)), column_scale), rows.sum() * gradient.shape[1]


def _inverse_root(squares: Tensor) -> Tensor:
    return squares.clamp(min=LEAST_SQUARE).rsqrt_()


def _excess(mean_square: Tensor, clip: float) -> Tensor:
    """Return the factor by which an update exceeds the clip; at least 1."""
    return (mean_square.sqrt() / clip).clamp(min=1)


def _mean_squares(gradient: Tensor) -> tuple[Tensor, Tensor]:
    """Return the mean square of each row and of each column."""
    # Products with ones are sums; torch's own sum along the columns takes ten times as long on a CPU.
    n_rows, n_columns = gradient.shape
    ones = gradient.new_ones(max(n_rows, n_columns), dtype=torch.float32)
    rows, columns = [], torch.zeros_like(ones[:n_columns])
    for (part,) in _parts(gradient):
        squares = part.float().square()
        rows.append(squares @ ones[:n_columns])
        columns += ones[: len(part)] @ squares
    return torch.cat(rows) / n_columns, columns / n_rows


def _add_product(
    p: Tensor, gradient: Tensor, row_scale: Tensor, column_scale: Tensor, kept: float, noise: torch.Generator
) -> None:
    """Set weights = kept * weights + gradient scaled by row and column, in their storage type."""
    for part, change, scale in _parts(p, gradient, row_scale.unsqueeze(1)):
        new = part.float().mul_(kept).addcmul_(change * column_scale, scale)
        part.copy_(new if p.dtype == torch.float32 else stochastically_rounded(new, noise))


def _parts(*matrices: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Yield the rows to process at once, of each matrix; the first one is the widest."""
    first = matrices[0]
    rows = max(AT_ONCE // first.shape[1], 1) if first.device.type == "cpu" else len(first)
    return zip(*(torch.split(matrix, rows) for matrix in matrices), strict=True)


def stochastically_rounded(x: Tensor, noise: torch.Generator) -> Tensor:
    """Round float32, in place, to one of the two neighbouring bfloat16 numbers at random, so that the mean is kept.

    Sixteen random bits are added to the sixteen low bits that bfloat16 lacks. They carry over with a probability that equals
    the distance from the lower number.
    """
    x.view(torch.int32).add_(_random_halves(x, noise)).bitwise_and_(HIGH_HALF)
    return x


def _random_halves(x: Tensor, noise: torch.Generator) -> Tensor:
    """Return uniform numbers in 0 .. 65535, of the shape of x."""
    if x.device.type != "cpu":
        return torch.randint(2**16, x.shape, dtype=torch.int32, device=x.device, generator=noise)
    # Four numbers from one draw.
    drawn = torch.empty(math.ceil(x.numel() / 4), dtype=torch.int64).random_(-(2**63), None, generator=noise)
    return drawn.view(torch.int16)[: x.numel()].view(x.shape).to(torch.int32).add_(2**15)
