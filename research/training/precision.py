"""Choice of the computation precision on a device, by measurement.

bfloat16 has the range of float32, and its products cost a fraction where the processor supports them. It is used under
autocast only: weights, moments, sums and losses stay float32.
"""

from __future__ import annotations

import time
from contextlib import AbstractContextManager
from dataclasses import replace

import torch
import torch.nn.functional as F

from research.models.patch_transformer import PatchTransformer
from research.runtime import Precision
from research.spec import ArchitectureSpec

CLEARLY = 1.2
"""Speed-up of a step from which bfloat16 is used."""
PROBE_LAYERS = 2
PROBE_RUNS = 5
MOST_ERROR = 0.1
"""Largest relative error of a gradient: bfloat16 keeps 8 bits, and a pass accumulates a few hundred roundings."""


def autocast(precision: Precision, device: torch.device) -> AbstractContextManager[object]:
    """Return a context in which forward passes compute in this precision."""
    return torch.autocast(device.type, dtype=torch.bfloat16, enabled=precision == "bfloat16")


def faster_precision(architecture: ArchitectureSpec, batch_size: int, device: torch.device) -> Precision:
    """Return bfloat16 if two blocks of this width are clearly faster in it and their gradients are close to float32's."""
    probe = _Probe(architecture, batch_size, device)
    plain, short = probe.gradient("float32"), probe.gradient("bfloat16")
    if not bool(short.isfinite().all()) or float((short - plain).norm()) > MOST_ERROR * float(plain.norm()):
        return "float32"
    seconds = {precision: probe.seconds(precision) for precision in ("float32", "bfloat16")}
    return "bfloat16" if seconds["bfloat16"] * CLEARLY < seconds["float32"] else "float32"


class _Probe:
    def __init__(self, architecture: ArchitectureSpec, batch_size: int, device: torch.device):
        a = replace(architecture, n_layers=min(architecture.n_layers, PROBE_LAYERS), n_symbols=0)
        generator = torch.Generator().manual_seed(0)
        self._device = device
        self._model = PatchTransformer(a).to(device)
        # The head of a fresh model is zero and would pass no gradient on.
        torch.nn.init.normal_(self._model.head.weight, std=self._model.head.in_features**-0.5)
        self._x_BTF = torch.randn(batch_size, a.context_length, a.n_features, generator=generator).to(device)
        self._y_B = torch.randint(0, 2, (batch_size,), generator=generator).float().to(device)

    def gradient(self, precision: Precision) -> torch.Tensor:
        """Return all gradients of one pass as one vector."""
        self._pass(precision)
        return torch.cat([p.grad.flatten() for p in self._model.parameters() if p.grad is not None])

    def seconds(self, precision: Precision) -> float:
        """Return the seconds of the fastest of several passes: other load on the machine only slows them down."""
        seconds = []
        for _ in range(PROBE_RUNS):
            began = time.perf_counter()
            self._pass(precision)
            if self._device.type == "cuda":
                torch.cuda.synchronize(self._device)
            seconds.append(time.perf_counter() - began)
        return min(seconds)

    def _pass(self, precision: Precision) -> None:
        self._model.zero_grad(set_to_none=True)
        with autocast(precision, self._device):
            logits_B = self._model(self._x_BTF)
        F.binary_cross_entropy_with_logits(logits_B.float(), self._y_B).backward()  # type: ignore[no-untyped-call]
