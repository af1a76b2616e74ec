"""Model folders whose files do not belong together are refused by their headers, before anything loads them."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from raylign.config.compose import compose
from raylign.config.schema import ModelConfig, TinyModel
from raylign.errors import ConfigError
from raylign.models.facts import model_facts
from raylign.models.folder_check import INDEX, folder_fault
from raylign.models.tiny import build_tiny_model


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    shape = TinyModel(hidden_size=32, layers=2, heads=2, kv_heads=1, tie_embeddings=False)
    return build_tiny_model(shape, tmp_path_factory.mktemp("cache"))


@pytest.fixture
def folder(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "model"))


def set_config(**fields: Any) -> Callable[[Path], None]:
    def change(folder: Path) -> None:
        file = folder / "config.json"
        file.write_text(json.dumps(json.loads(file.read_text()) | fields))

    return change


def shard(folder: Path) -> None:
    """Two shards and an index in place of one file."""
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(tensors)
    parts = {"model-1.safetensors": names[:4], "model-2.safetensors": names[4:]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    weight_map = {name: file for file, part in parts.items() for name in part}
    (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))


def lacking_shard(folder: Path) -> None:
    shard(folder)
    (folder / "model-2.safetensors").unlink()


def lost_tensor(folder: Path) -> None:
    shard(folder)
    file = folder / "model-2.safetensors"
    tensors = load_file(file)
    tensors.pop(sorted(tensors)[0])
    save_file(tensors, file)


def cut(folder: Path) -> None:
    file = folder / "model.safetensors"
    file.write_bytes(file.read_bytes()[:-5000])


def grown(folder: Path) -> None:
    with (folder / "model.safetensors").open("ab") as stream:
        stream.write(b"x" * 10)


def no_tokenizer(folder: Path) -> None:
    for file in folder.glob("*token*"):
        file.unlink()


def small_embedding(folder: Path) -> None:
    """Rows cut off and the config told: only the tokenizer knows better."""
    tensors = load_file(folder / "model.safetensors")
    for name in ("model.embed_tokens.weight", "lm_head.weight"):
        tensors[name] = np.ascontiguousarray(tensors[name][:100])
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    set_config(vocab_size=100)(folder)


def no_head(folder: Path) -> None:
    tensors = load_file(folder / "model.safetensors")
    tensors.pop("lm_head.weight")
    save_file(tensors, folder / "model.safetensors")


def renamed(folder: Path, prefix: str, suffix: str = "") -> None:
    tensors = load_file(folder / "model.safetensors")
    save_file({f"{prefix}{name}{suffix}": tensor for name, tensor in tensors.items()}, folder / "model.safetensors")


def wrapped(folder: Path) -> None:
    renamed(folder, "_orig_mod.")


def adapter(folder: Path) -> None:
    renamed(folder, "base_model.model.", ".lora_A.weight")


FAULTS = [
    (lacking_shard, "lacks 1 of the 2 files"),
    (lost_tensor, "does not hold it"),
    (cut, "cut off"),
    (grown, "damaged"),
    (no_tokenizer, "no tokenizer"),
    (lambda folder: (folder / "tokenizer.json").write_text("{"), "tokenizer.json cannot be read"),
    (lambda folder: (folder / "tokenizer.json").write_text("{}"), "is no tokenizer"),
    (set_config(vocab_size=300), "vocab_size=300"),
    (set_config(hidden_size=64), "hidden_size=64"),
    (set_config(num_hidden_layers=3), "lack layer 2"),
    (set_config(num_hidden_layers=1), "have 2"),
    (small_embedding, "its embedding 100 rows"),
    (no_head, "no lm_head"),
    (wrapped, "wrapped model"),
    (adapter, "LoRA adapter"),
    (lambda folder: save_file({}, folder / "model.safetensors"), "no tensor"),
    (lambda folder: (folder / "config.json").write_text("[]"), "no object"),
]


@pytest.mark.parametrize(("spoil", "word"), FAULTS, ids=lambda value: getattr(value, "__name__", str(value))[:30])
def test_a_folder_that_does_not_fit_together(folder: Path, spoil: Callable[[Path], object], word: str) -> None:
    assert folder_fault(folder) == ""
    spoil(folder)
    assert word in folder_fault(folder)
    with pytest.raises(ConfigError) as caught:
        compose(["recipe=grpo", "scale=tiny", f"model.path={folder}", f"scorers.reference.path={folder}"])
    keys = {problem.key for problem in caught.value.problems}
    assert keys >= {"model.path", "scorers.reference.path"}


def test_whole_folders_are_taken(folder: Path) -> None:
    assert folder_fault(folder) == ""
    shard(folder)
    assert folder_fault(folder) == ""
    save_file({"mtp.layers.9.x": np.zeros(2, np.float32)}, folder / "consolidated.safetensors")
    assert folder_fault(folder) == "", "what the index does not name is not read"


@pytest.mark.parametrize("sharded", [False, True])
def test_weights_that_are_there_twice_count_once(folder: Path, sharded: bool) -> None:
    """Of a folder with an index what it names, of another ``model.safetensors``: some publish both forms."""
    known = model_facts(ModelConfig(path=str(folder))).parameters
    copy = (folder / "model.safetensors").read_bytes()
    if sharded:
        shard(folder)
    (folder / "consolidated.safetensors").write_bytes(copy)
    assert model_facts(ModelConfig(path=str(folder))).parameters == known
