"""What a Hugging Face folder says about its model before anything loads it: kind, context, parameters, KV size."""

from __future__ import annotations

import json
import re
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylign.config.schema import ModelConfig, TinyModel
from raylign.models.tiny import SPECIAL

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """Numbers for plans and checks.

    Example: ``ModelFacts(name="Qwen3ForCausalLM", parameters=1_200_000, context=512, layers=4, hidden=128, ...)``
    """

    name: str
    parameters: int
    context: int  # tokens; 0 when the model does not say
    layers: int
    hidden: int
    vocab: int
    kv_values: int  # keys and values of one token in one layer, in numbers

    def kv_bytes(self, dtype_bytes: int) -> int:
        """Bytes of KV cache that one token takes."""
        return self.layers * self.kv_values * dtype_bytes


def model_facts(config: ModelConfig) -> ModelFacts:
    """Facts of the configured model. Raises ValueError saying what is wrong with the path."""
    if not config.path:
        return _tiny_facts(config.tiny)
    folder = model_folder(config.path)
    try:
        fields = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise ValueError("holds no config.json, so it is no Hugging Face model folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise ValueError(f"its config.json cannot be read ({cause})") from cause
    names = fields.get("architectures") or []
    if not any(name.endswith("ForCausalLM") for name in names):
        raise ValueError(f"is no causal language model (architectures: {', '.join(names) or 'none given'})")
    text = fields.get("text_config") or fields
    stored = _stored_parameters(folder)
    if stored is None:
        raise ValueError("holds no model.safetensors (or its header is damaged)")
    return _facts(names[0], text, stored)


def model_folder(path: str) -> Path:
    """The local folder of a path or of an already downloaded Hub id. Raises ValueError when there is none.

    A Hub id that is not in the cache is fetched as far as its small files, so that a typo costs seconds.
    """
    folder = Path(path).expanduser()
    if folder.is_dir():
        return folder
    if folder.exists():
        raise ValueError("is a file; name the model's folder")
    if not HUB_ID.fullmatch(path):
        raise ValueError("does not exist, and is no Hugging Face id (owner/name) either")
    return _hub_folder(path)


def _hub_folder(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=["*.json"], local_files_only=True))
    except LocalEntryNotFoundError:
        pass
    try:
        return Path(snapshot_download(name, allow_patterns=["*.json"], etag_timeout=5))
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as cause:
        why = str(cause).splitlines()[0]
        raise ValueError(f"is no folder here, and the Hugging Face Hub did not give it ({why})") from cause


def _tiny_facts(shape: TinyModel) -> ModelFacts:
    fields = {
        "num_hidden_layers": shape.layers,
        "hidden_size": shape.hidden_size,
        "num_attention_heads": shape.heads,
        "num_key_value_heads": shape.kv_heads,
        "head_dim": shape.head_dim,
        "intermediate_size": shape.intermediate_size,
        "vocab_size": len(SPECIAL) + 256,
        "max_position_embeddings": shape.context,
        "tie_word_embeddings": shape.tie_embeddings,
    }
    return _facts("tiny Qwen3", fields, 0)


def _facts(name: str, fields: Mapping[str, Any], stored: int) -> ModelFacts:
    layers = int(fields.get("num_hidden_layers", 0))
    hidden = int(fields.get("hidden_size", 0))
    heads = int(fields.get("num_attention_heads", 1))
    kv_heads = int(fields.get("num_key_value_heads") or heads)
    head_dim = int(fields.get("head_dim") or hidden // heads)
    vocab = int(fields.get("vocab_size", 0))
    attention = hidden * head_dim * 2 * (heads + kv_heads)
    mlp = 3 * hidden * int(fields.get("intermediate_size", 4 * hidden))
    embedding = vocab * hidden * (1 if fields.get("tie_word_embeddings") else 2)
    return ModelFacts(
        name=name,
        parameters=stored or embedding + layers * (attention + mlp + 2 * hidden + 2 * head_dim) + hidden,
        context=int(fields.get("max_position_embeddings", 0)),
        layers=layers,
        hidden=hidden,
        vocab=vocab,
        kv_values=2 * kv_heads * head_dim,
    )


def _stored_parameters(folder: Path) -> int | None:
    """Numbers in all safetensors of a folder, from their headers; 0 when only the index is here, None when absent."""
    files = sorted(folder.glob("*.safetensors"))
    if not files:
        index = folder / "model.safetensors.index.json"
        return 0 if index.exists() or "snapshots" in folder.parts else None
    total = 0
    for file in files:
        try:
            with file.open("rb") as stream:
                (length,) = struct.unpack("<Q", stream.read(8))
                header = json.loads(stream.read(length)) if length < file.stat().st_size else None
        except (OSError, struct.error, ValueError):
            return None
        if header is None or file.stat().st_size < 8 + length + _data_bytes(header):
            return None
        for entry in header.values():
            if "shape" in entry:
                count = 1
                for side in entry["shape"]:
                    count *= side
                total += count
    return total


def _data_bytes(header: Mapping[str, Any]) -> int:
    return max((entry["data_offsets"][1] for entry in header.values() if "data_offsets" in entry), default=0)
