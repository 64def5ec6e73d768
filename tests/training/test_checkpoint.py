"""Weights come back as they were, and a reader never meets half a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from research.models.patch_transformer import PatchTransformer
from research.spec import ArchitectureSpec
from research.training.checkpoint import load_weights, save_weights

ARCHITECTURE = ArchitectureSpec(d_model=8, n_layers=2, n_heads=2, d_ff=16, n_features=3)


def awake(architecture: ArchitectureSpec, seed: int = 0, dropout: float = 0.0) -> PatchTransformer:
    torch.manual_seed(seed)
    model = PatchTransformer(architecture, dropout)
    torch.nn.init.normal_(model.head.weight)
    return model.eval()


@pytest.mark.parametrize("window_norm", [False, True])
def test_saved_weights_give_identical_logits(tmp_path: Path, window_norm: bool) -> None:
    a = replace(ARCHITECTURE, window_norm=window_norm)
    model = awake(a, dropout=0.5)
    save_weights(model, tmp_path / "weights.safetensors")
    loaded = load_weights(a, tmp_path / "weights.safetensors")
    x_BTF = torch.randn(4, 60, 3)
    assert not loaded.training
    assert torch.equal(loaded(x_BTF), model(x_BTF))
    assert loaded(x_BTF).abs().min() > 0


def test_saving_leaves_one_whole_file_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for seed in (0, 1):
        save_weights(awake(ARCHITECTURE, seed), path)
    assert list(tmp_path.iterdir()) == [path]
    x_BTF = torch.randn(4, 60, 3)
    assert torch.equal(load_weights(ARCHITECTURE, path)(x_BTF), awake(ARCHITECTURE, seed=1)(x_BTF))


def test_an_old_file_survives_a_save_that_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_written(_: object, staging: Path, __: object) -> None:
        staging.write_bytes(b"half")
        raise OSError("no space left on device")

    path = tmp_path / "weights.safetensors"
    save_weights(awake(ARCHITECTURE), path)
    monkeypatch.setattr("research.training.checkpoint.save_file", half_written)
    with pytest.raises(OSError, match="no space"):
        save_weights(awake(ARCHITECTURE, seed=1), path)
    x_BTF = torch.randn(4, 60, 3)
    assert torch.equal(load_weights(ARCHITECTURE, path)(x_BTF), awake(ARCHITECTURE)(x_BTF))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(awake(ARCHITECTURE), path)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(replace(ARCHITECTURE, d_ff=32), path)
