"""Whether the files of a model's folder belong together: tokenizer, shards, shapes. Reads headers, never weights."""

from __future__ import annotations

import functools
import json
import os
import re
import struct
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

INDEX = "model.safetensors.index.json"
TOKENIZERS = ("tokenizer.json", "tokenizer.model", "vocab.json", "vocab.txt", "spiece.model", "tekken.json")
LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
WRAPPERS = ("_orig_mod.", "module.", "_fsdp_wrapped_module.")  # torch.compile, DDP, FSDP
HEADER = 100 * 2**20  # bytes; the format's own limit


def folder_fault(folder: Path) -> str:
    """Why this folder cannot be loaded, in one line; empty when nothing speaks against it."""
    stamps = tuple(sorted((file.name, file.stat().st_size, file.stat().st_mtime_ns) for file in folder.iterdir()))
    return _fault(folder, stamps)


@functools.lru_cache(maxsize=64)
def _fault(folder: Path, stamps: tuple[tuple[str, int, int], ...]) -> str:
    """`stamps`: size and time of every file: a folder that did not change needs no second look."""
    try:
        config = _json(folder / "config.json")
        text = config.get("text_config") or config
        shapes = stored_shapes(folder)
        size = _tokenizer_size(folder, config)
        faults = (
            *_name_faults(shapes, "snapshots" in folder.parts),
            *_shape_faults(text, shapes),
            *_tokenizer_faults(size, text, shapes),
        )
    except ValueError as cause:
        return str(cause)
    return next(iter(faults), "")


def stored_shapes(folder: Path) -> dict[str, tuple[int, ...]]:
    """Shape of every tensor that loading would read. Raises ValueError on an absent, damaged or cut-off file, and on a
    tensor that the index promises and no file holds.

    Empty for a Hub id of which only the small files are here.
    """
    index = folder / INDEX
    if not index.exists():
        single = folder / "model.safetensors"
        files = [single] if single.exists() else sorted(folder.glob("*.safetensors"))
        return {name: shape for file in files for name, shape in _header(file).items()}
    try:
        weight_map = json.loads(index.read_text())["weight_map"]
        promised = {str(name): str(file) for name, file in weight_map.items()}
    except (ValueError, KeyError, AttributeError) as cause:
        raise ValueError(f"its {INDEX} cannot be read ({cause})") from None
    names = sorted(set(promised.values()))
    here = [name for name in names if (folder / name).exists()]
    if not here and "snapshots" in folder.parts:
        return {}
    absent = [name for name in names if name not in here]
    if absent:
        raise ValueError(f"lacks {len(absent)} of the {len(names)} files that its {INDEX} names, e.g. {absent[0]}")
    held = {name: _header(folder / name) for name in here}
    lost = [tensor for tensor, name in promised.items() if tensor not in held[name]]
    if lost:
        raise ValueError(f"its {INDEX} promises {lost[0]} in {promised[lost[0]]}, which does not hold it")
    return {tensor: held[name][tensor] for tensor, name in promised.items()}


def _header(file: Path) -> dict[str, tuple[int, ...]]:
    size = file.stat().st_size
    try:
        with file.open("rb") as stream:
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(HEADER, size):
                raise ValueError("its header is longer than the file")
            entries: Mapping[str, Any] = json.loads(stream.read(length))
        tensors = {name: entry for name, entry in entries.items() if name != "__metadata__"}
        end = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        shapes = {name: tuple(int(side) for side in entry["shape"]) for name, entry in tensors.items()}
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise ValueError(f"{file.name} is damaged ({cause})") from None
    if size != end:
        raise ValueError(f"{file.name} is {'cut off' if size < end else 'damaged'}: {size} bytes of {end}")
    return shapes


def _name_faults(shapes: Mapping[str, tuple[int, ...]], partial: bool) -> Iterator[str]:
    """Weights that are no model's own, by the names of their tensors. partial: a Hub id's small files are enough."""
    if not shapes and not partial:
        yield "holds no tensor in its safetensors"
    if any(".lora_" in name for name in shapes):
        yield "holds a LoRA adapter; merge it into its model first (peft: merge_and_unload)"
    for wrapper in WRAPPERS:
        if shapes and all(name.startswith(wrapper) for name in shapes):
            yield f"was saved from a wrapped model: all its tensors begin with {wrapper!r}; save the model inside"


def _shape_faults(fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    """Where config.json and the weights contradict each other."""
    embedding = next((shapes[name] for name in sorted(shapes) if name.endswith(EMBEDDINGS)), None)
    if embedding is None:
        return
    # GPT-2 and others spell the two otherwise; what the config does not say is not compared.
    for key, told, stored in (
        ("vocab_size", fields.get("vocab_size"), embedding[0]),
        ("hidden_size", fields.get("hidden_size", fields.get("n_embd", fields.get("d_model"))), embedding[-1]),
    ):
        if told is not None and int(told) != stored and not (key == "hidden_size" and _projects(fields)):
            yield f"does not fit together: config.json says {key}={told}, the embedding in its weights has {stored}"
    numbers = {int(found[1]) for name in shapes if (found := LAYER.search(name)) and "mtp" not in name}
    told = fields.get("num_hidden_layers", fields.get("n_layer", fields.get("num_layers")))
    if told is not None and numbers:
        absent = sorted(set(range(int(told))) - numbers)
        if absent:
            yield f"does not fit together: config.json says {told} layers, its weights lack layer {absent[0]}"
        elif len(numbers) > int(told) + int(fields.get("num_nextn_predict_layers") or 0):
            yield f"does not fit together: config.json says {told} layers, its weights have {len(numbers)}"
    if not fields.get("tie_word_embeddings", True) and not any("lm_head" in n or "embed_out" in n for n in shapes):
        yield "does not fit together: config.json says tie_word_embeddings=false, its weights have no lm_head"


def _projects(fields: Mapping[str, Any]) -> bool:
    """OPT and others may embed narrower than they compute."""
    narrow = fields.get("word_embed_proj_dim") or fields.get("embedding_size")
    return narrow is not None and narrow != fields.get("hidden_size")


def _tokenizer_size(folder: Path, config: Mapping[str, Any]) -> int:
    """Ids that the tokenizer knows, 0 where only loading it would tell. Raises ValueError on an absent or broken."""
    custom = folder / "tokenizer_config.json"
    settings = _json(custom) if custom.exists() else {}
    if not any((folder / name).exists() for name in TOKENIZERS):
        if "auto_map" in settings or "auto_map" in config:
            return 0
        raise ValueError(f"holds no tokenizer (none of {', '.join(TOKENIZERS)}); copy it from the model's origin")
    file = folder / "tokenizer.json"
    if not file.exists():
        empty = [name for name in TOKENIZERS if (folder / name).exists() and not os.path.getsize(folder / name)]
        if empty:
            raise ValueError(f"its {empty[0]} is empty")
        return 0
    core = _json(file)
    try:
        vocabulary = core["model"]["vocab"]
        ids = [*vocabulary.values()] if isinstance(vocabulary, dict) else range(len(vocabulary))
        added = [int(token["id"]) for token in core.get("added_tokens") or ()]
        if not ids and not added:
            raise ValueError("its tokenizer.json knows no token")
        return 1 + max([*added, *(int(index) for index in ids)])
    except (KeyError, TypeError) as cause:
        raise ValueError(f"its tokenizer.json is no tokenizer ({type(cause).__name__}: {cause})") from None


def _tokenizer_faults(size: int, fields: Mapping[str, Any], shapes: Mapping[str, tuple[int, ...]]) -> Iterator[str]:
    rows = next((shapes[name][0] for name in sorted(shapes) if name.endswith(EMBEDDINGS)), None)
    rows = rows or fields.get("vocab_size")
    if size and rows and size > int(rows):
        yield f"does not fit together: its tokenizer has ids up to {size - 1}, its embedding {rows} rows"


def _json(file: Path) -> dict[str, Any]:
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError) as cause:
        raise ValueError(f"its {file.name} cannot be read ({cause})") from None
    if not isinstance(found, dict):
        raise ValueError(f"its {file.name} is no object")
    return found
