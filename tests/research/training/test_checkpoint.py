"""Weights come back as they were, and a reader never meets half a file."""

from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from research.models.patch_transformer import PatchTransformer
from research.models.weights import load_weights
from research.spec import ArchitectureSpec
from research.training.checkpoint import Checkpoint, Writer, save_weights

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
    save_weights(model.state_dict(), tmp_path / "weights.safetensors")
    loaded = load_weights(a, tmp_path / "weights.safetensors")
    x_BTF = torch.randn(4, 60, 3)
    assert not loaded.training
    assert torch.equal(loaded(x_BTF), model(x_BTF))
    assert loaded(x_BTF).abs().min() > 0


def test_saving_leaves_one_whole_file_and_replaces_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    for seed in (0, 1):
        save_weights(awake(ARCHITECTURE, seed).state_dict(), path)
    assert list(tmp_path.iterdir()) == [path]
    x_BTF = torch.randn(4, 60, 3)
    assert torch.equal(load_weights(ARCHITECTURE, path)(x_BTF), awake(ARCHITECTURE, seed=1)(x_BTF))


def test_an_old_file_survives_a_save_that_breaks_off(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def half_written(_: object, staging: Path, __: object) -> None:
        staging.write_bytes(b"half")
        raise OSError("no space left on device")

    path = tmp_path / "weights.safetensors"
    save_weights(awake(ARCHITECTURE).state_dict(), path)
    monkeypatch.setattr("research.training.checkpoint.save_file", half_written)
    with pytest.raises(OSError, match="no space"):
        save_weights(awake(ARCHITECTURE, seed=1).state_dict(), path)
    x_BTF = torch.randn(4, 60, 3)
    assert torch.equal(load_weights(ARCHITECTURE, path)(x_BTF), awake(ARCHITECTURE)(x_BTF))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "weights.safetensors"
    save_weights(awake(ARCHITECTURE).state_dict(), path)
    with pytest.raises(RuntimeError, match="size mismatch"):
        load_weights(replace(ARCHITECTURE, d_ff=32), path)


class SlowDisk:
    """Holds a checkpoint's writing up until it is told to go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.goes_on, real = threading.Event(), Checkpoint.save

        def save(checkpoint: Checkpoint, path: Path) -> None:
            assert self.goes_on.wait(30)
            real(checkpoint, path)

        monkeypatch.setattr(Checkpoint, "save", save)


def state(value: float) -> Checkpoint:
    return Checkpoint(tensors={"weights": torch.full((10,), value)}, notes={"records": [1]})


def test_a_large_checkpoint_of_an_accelerator_is_written_beside_training(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk, path = SlowDisk(monkeypatch), tmp_path / "c.safetensors"
    writer, taken = Writer(torch.device("cuda"), large=1), state(1.0)
    writer.save(taken, path)
    # Training goes on and overwrites what it has on the host.
    taken.tensors["weights"].fill_(2.0)
    assert not path.exists()
    disk.goes_on.set()
    writer.save(state(3.0), tmp_path / "next.safetensors")
    found = Checkpoint.load(path)
    assert found is not None
    assert found.tensors["weights"].tolist() == [1.0] * 10
    writer.wait()
    assert (tmp_path / "next.safetensors").exists()


@pytest.mark.parametrize(("device", "large"), [("cpu", 1), ("cuda", 1000)])
def test_a_small_one_and_that_of_a_cpu_is_there_at_once(device: str, large: int, tmp_path: Path) -> None:
    Writer(torch.device(device), large).save(state(1.0), tmp_path / "c.safetensors")
    assert Checkpoint.load(tmp_path / "c.safetensors") is not None


def test_a_disk_that_is_full_in_the_background_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError("no space left on device")

    monkeypatch.setattr(Checkpoint, "save", full)
    writer = Writer(torch.device("cuda"), large=1)
    writer.save(state(1.0), tmp_path / "c.safetensors")
    with pytest.warns(UserWarning, match=r"epoch 1: no checkpoint could be written \(no space"):
        writer.wait()
