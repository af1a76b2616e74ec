"""What a Hugging Face folder says about its model before anything loads it: kind, context, parameters, KV size."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from raylign.config.schema import ModelConfig, TinyModel
from raylign.models.headers import INDEX, indexed_bytes, stored_tensors
from raylign.models.scoring import SCORING, labels_of
from raylign.models.tensor_rules import FAMILIES, head_size
from raylign.models.tiny import SPECIAL
from raylign.models.weights_check import quantised

# Ends of the class names of models that give log-probs of text; those for conditional generation by their text tower.
CAUSAL = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration")
COMMON = (
    "num_hidden_layers", "hidden_size", "num_attention_heads", "vocab_size", "intermediate_size",
    "max_position_embeddings", "num_key_value_heads", "head_dim", "tie_word_embeddings",
)  # fmt: skip
EXPERTS = ("num_experts", "num_local_experts", "n_routed_experts")
VALUE_BYTES = {"float32": 4, "float16": 2, "bfloat16": 2}
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
    heads: int = 0  # of attention; 0 when the model does not say
    linear: int = 0  # inputs and outputs of all linear layers that adapters may have, added up

    @property
    def size(self) -> str:
        """Its parameters, shortly: ``1.2 M``."""
        for unit, size in (("B", 1e9), ("M", 1e6), ("k", 1e3)):
            if self.parameters >= size:
                return f"{self.parameters / size:.1f} {unit}"
        return str(self.parameters)

    def kv_bytes(self, dtype_bytes: int) -> int:
        """Bytes of KV cache that one token takes."""
        return self.layers * self.kv_values * dtype_bytes


def model_facts(config: ModelConfig, ends: tuple[str, ...] = CAUSAL) -> ModelFacts:
    """Facts of the configured model. ends: of the class names that will do.

    Raises ValueError saying what is wrong with the path.
    """
    if not config.path:
        return _tiny_facts(config.tiny)
    folder = model_folder(config.path)
    try:
        fields = json.loads((folder / "config.json").read_text())
    except FileNotFoundError:
        raise ValueError("holds no config.json, so it is no Hugging Face model folder") from None
    except (json.JSONDecodeError, UnicodeDecodeError) as cause:
        raise ValueError(f"its config.json cannot be read ({cause})") from cause
    if not isinstance(fields, dict):
        raise ValueError("its config.json is no object")
    names = fields.get("architectures") or []
    names = [names] if isinstance(names, str) else names
    if not any(name.endswith(ends) for name in names):
        what = "reward model" if ends == (SCORING,) else "causal language model"
        raise ValueError(f"is no {what} (architectures: {', '.join(names) or 'none given'})")
    if names[0].endswith(SCORING) and (labels := labels_of(fields)) != 1:
        raise ValueError(f"gives {labels} numbers to a text, and a reward model one (num_labels=1)")
    text = fields.get("text_config") or fields
    if not isinstance(text, Mapping):
        raise ValueError("its config.json holds a text_config that is no object")
    if fields.get("is_encoder_decoder") or (text is fields and names[0].endswith(CAUSAL[-1])):
        raise ValueError(f"has no text tower that is a causal language model (architectures: {', '.join(names)})")
    width = VALUE_BYTES.get(str(text.get("dtype") or text.get("torch_dtype")), 2)
    facts = _facts(names[0], _common_names(fields, text), _stored_parameters(folder, fields, width))
    for key, value in (("num_hidden_layers", facts.layers), ("hidden_size", facts.hidden), ("vocab_size", facts.vocab)):
        if value < 1:
            raise ValueError(f"its config.json gives no {key}, without which nothing can be planned")
    return facts


def _common_names(fields: Mapping[str, Any], text: Mapping[str, Any]) -> dict[str, Any]:
    """The text tower's settings under the names that most families use (BLOOM says n_layer, GPT-2 n_embd)."""
    if all(text.get(name) is not None for name in COMMON[:6]):
        return dict(text)
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    kind = str(text.get("model_type") or fields.get("model_type"))
    known = dict(text)
    if kind in CONFIG_MAPPING:
        try:
            config = CONFIG_MAPPING[kind](**{name: value for name, value in text.items() if name != "model_type"})
            config = config.get_text_config()
        except Exception as cause:
            raise ValueError(f"its config.json is no valid {kind} ({str(cause).splitlines()[0]})") from cause
        for name in COMMON:
            if known.get(name) is None and (value := getattr(config, name, None)) is not None:
                known[name] = value
    return known


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
    layers, hidden, vocab = (_number(fields, name) for name in ("num_hidden_layers", "hidden_size", "vocab_size"))
    heads = _number(fields, "num_attention_heads") or 1
    kv_heads = _number(fields, "num_key_value_heads") or heads
    kind = str(fields.get("model_type"))
    head_dim = _number(fields, "head_dim") or head_size(kind, fields)
    attention = hidden * head_dim * 2 * (heads + kv_heads)
    tied = fields.get("tie_word_embeddings", kind in FAMILIES and FAMILIES[kind].tied)
    embedding = vocab * hidden * (1 if tied else 2)
    mlp = _mlp(fields, layers)
    return ModelFacts(
        name=name,
        parameters=stored or embedding + layers * (attention + 2 * hidden + 2 * head_dim) + mlp + hidden,
        context=_number(fields, "max_position_embeddings"),
        layers=layers,
        hidden=hidden,
        vocab=vocab,
        kv_values=2 * kv_heads * head_dim,
        heads=_number(fields, "num_attention_heads"),
        linear=layers * 2 * (hidden + head_dim * (heads + kv_heads)) + layers * 2 * hidden + _wide(fields, layers),
    )


def _wide(fields: Mapping[str, Any], layers: int) -> int:
    """Inputs and outputs of the feed-forward layers, added up; where there are experts they have no adapters."""
    hidden = _number(fields, "hidden_size")
    if any(_number(fields, name) for name in EXPERTS):
        return 0
    return layers * 3 * (hidden + (_number(fields, "intermediate_size") or 4 * hidden))


def _mlp(fields: Mapping[str, Any], layers: int) -> int:
    """Numbers of all feed-forward layers, with gates; of mixtures, of all experts and their routers."""
    hidden = _number(fields, "hidden_size")
    wide = 3 * hidden * (_number(fields, "intermediate_size") or 4 * hidden)
    experts = max(_number(fields, name) for name in EXPERTS)
    if not experts:
        return layers * wide
    expert = 3 * hidden * (_number(fields, "moe_intermediate_size") or _number(fields, "intermediate_size"))
    shared = expert * _number(fields, "n_shared_experts")
    shared = shared or 3 * hidden * _number(fields, "shared_expert_intermediate_size")
    plain = min(layers, _number(fields, "first_k_dense_replace") + len(fields.get("mlp_only_layers") or ()))
    return plain * wide + (layers - plain) * (experts * (expert + hidden) + shared)


def _number(fields: Mapping[str, Any], name: str) -> int:
    """A count; the largest where layers differ, 0 where none is given."""
    value = fields.get(name) or 0
    try:
        return int(max(value, default=0) if isinstance(value, list) else value)
    except (TypeError, ValueError):
        raise ValueError(f"its config.json says {name}={value!r}, which is no number") from None


def _stored_parameters(folder: Path, fields: Mapping[str, Any], value_bytes: int) -> int:
    """Numbers in the safetensors of a folder; of quantised ones, how many of two bytes would take as much.

    With an index only the files that it names count, and where it is all that is here, its own total. 0: nothing is
    here to be counted, or it is damaged, which `folder_check` reports.
    """
    if (folder / INDEX).exists() and not any(folder.glob("*.safetensors")):
        return indexed_bytes(folder) // value_bytes
    try:
        weights = stored_tensors(folder)
    except ValueError:
        return 0
    if quantised(fields):
        return sum(tensor.bytes for tensor in weights.values()) // 2
    return sum(tensor.size for tensor in weights.values())
