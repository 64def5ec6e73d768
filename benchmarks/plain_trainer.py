"""What a competent researcher writes without this project: torch's own encoder, DataLoader and AdamW in a plain loop.

It computes the same function as our model, with the same number of parameters, and drops the same activations.

Shapes: R rows (days), T context days, F features, B batch, N patches, D model width.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Dataset

from research.spec import ArchitectureSpec, TrainingSpec

Item = tuple[Tensor, Tensor]
CPU = torch.device("cpu")


class Windows(Dataset[Item]):
    """One window x_TF and its label per item, sliced out of the matrix of all days."""

    def __init__(
        self, values_RF: NDArray[np.float32], labels_R: NDArray[np.int8], rows: NDArray[np.int64], context_length: int
    ):
        self.values_RF = torch.from_numpy(values_RF)
        self.labels_R = torch.from_numpy(labels_R.astype(np.float32))
        self.rows = rows.tolist()
        self.context_length = context_length

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, place: int) -> Item:
        row = self.rows[place]
        return self.values_RF[row - self.context_length + 1 : row + 1], self.labels_R[row]


class PlainTransformer(nn.Module):
    """Linear patch embedding, learned positions, `nn.TransformerEncoder`, flattened linear head; returns logits."""

    def __init__(self, architecture: ArchitectureSpec, dropout: float):
        super().__init__()
        a = architecture
        assert not a.window_norm
        assert a.n_symbols == 0
        self.architecture = a
        self.embedding = nn.Linear(a.patch_length * a.n_features, a.d_model)
        self.positions_ND = nn.Parameter(0.02 * torch.randn(a.n_patches, a.d_model))
        self.dropout = nn.Dropout(dropout)
        norm = nn.LayerNorm(a.d_model)
        # Nested tensors are for padded sequences, of which there are none.
        self.encoder = nn.TransformerEncoder(encoder_layer(a, dropout), a.n_layers, norm, enable_nested_tensor=False)
        self.head = nn.Linear(a.n_patches * a.d_model, 1)

    def forward(self, x_BTF: Tensor) -> Tensor:
        """Logits [B]; patches are right-aligned, so that the last one ends on the newest day."""
        a = self.architecture
        covered = (a.n_patches - 1) * a.patch_stride + a.patch_length
        patches_BNFP = x_BTF[:, -covered:].unfold(1, a.patch_length, a.patch_stride)
        x_BND = self.embedding(patches_BNFP.transpose(2, 3).flatten(2)) + self.positions_ND
        x_BND = self.encoder(self.dropout(x_BND))
        logits_B: Tensor = self.head(x_BND.flatten(1)).squeeze(1)
        return logits_B


def encoder_layer(a: ArchitectureSpec, dropout: float) -> nn.TransformerEncoderLayer:
    """Torch's pre-norm layer with dropout on the two residual branches alone, as in our blocks."""
    layer = nn.TransformerEncoderLayer(
        a.d_model, a.n_heads, a.d_ff, dropout, activation="gelu", batch_first=True, norm_first=True
    )
    # Torch would drop attention weights and hidden units as well, which is more work than ours does.
    layer.self_attn.dropout = 0.0
    layer.dropout.p = 0.0
    return layer


class PlainTrainer:
    """The usual training loop. Calls continue in the data where the last one stopped, so a few batches can be timed."""

    def __init__(self, dataset: Windows, architecture: ArchitectureSpec, spec: TrainingSpec, device: torch.device = CPU):
        torch.manual_seed(spec.seed)
        self.spec = spec
        self.device = device
        self.model = PlainTransformer(architecture, spec.dropout).to(device)
        self.optimizer = torch.optim.AdamW(self.model.parameters(), lr=spec.learning_rate, weight_decay=spec.weight_decay)
        self.loader = DataLoader(dataset, batch_size=spec.batch_size, shuffle=True)
        self._batches = _endless(self.loader)

    @property
    def batches_per_epoch(self) -> int:
        """Return the number of batches per epoch; the last batch may be smaller."""
        return len(self.loader)

    def run(self, batches: int = 1) -> list[float]:
        """Train on the next batches, across epochs if needed; return the loss of each batch."""
        self.model.train()
        return [self._step(x_BTF.to(self.device), y_B.to(self.device)) for x_BTF, y_B in islice(self._batches, batches)]

    def _step(self, x_BTF: Tensor, y_B: Tensor) -> float:
        self.optimizer.zero_grad()
        loss = F.binary_cross_entropy_with_logits(self.model(x_BTF), y_B)
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(self.model.parameters(), self.spec.gradient_clip)
        self.optimizer.step()
        return loss.item()


def _endless(loader: DataLoader[Item]) -> Iterator[Item]:
    while True:
        yield from loader
