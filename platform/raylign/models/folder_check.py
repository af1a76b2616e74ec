"""Whether the files of a model's folder belong together: weights by their headers, config, tokenizer, chat."""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from raylign.models.headers import SINGLE, Tensor, holds_weights, stored_tensors
from raylign.models.scoring import SCORING, head_faults, is_scoring
from raylign.models.template_check import template_faults
from raylign.models.tensor_rules import FAMILIES
from raylign.models.tokenizer_check import (
    TOKENIZERS,
    generation_faults,
    holds_tokenizer,
    id_faults,
    read_json,
    token_faults,
    vocabulary,
)
from raylign.models.weights_check import (
    COPY,
    embedding_of,
    layer_faults,
    origin_faults,
    quantisation_faults,
    quantised,
    size_faults,
)

CAUSAL_LM = "ForCausalLM"
OTHER_FORMS = ("*.bin", "*.gguf", "*.pt", "*.pth")
QUANTISED = ("quantize_config.json", "quant_config.json", "quantization_config.json")
Stamps = tuple[tuple[str, int, int], ...]


class Fault(NamedTuple):
    """What is wrong with a folder, and what to do.

    Example: ``Fault("its tokenizer.json is empty", "copy the model's whole folder again, or name another")``
    """

    why: str
    fix: str


def folder_fault(folder: Path, trained: bool = True) -> Fault | None:
    """Why this folder cannot be loaded, None when nothing that is there speaks against it. What is absent altogether is
    `folder_lacks`. trained: whether the learner loads it too, or only an engine.
    """
    return _fault(folder, _stamps(folder), trained)


def folder_lacks(folder: Path) -> Fault | None:
    """What a run needs and a plan can do without, for it plans from config.json; None when all is there."""
    lacks = []
    if not holds_weights(folder) and "snapshots" not in folder.parts:
        other = next((file.name for form in OTHER_FORMS for file in sorted(folder.glob(form))), "")
        lacks.append(f"no weights ({SINGLE} or shards{f'; {other} is not read' if other else ''})")
    if not holds_tokenizer(folder) and "snapshots" not in folder.parts and not _brings_code(folder):
        lacks.append(f"no tokenizer ({TOKENIZERS[0]} or the like)")
    if not lacks:
        return None
    return Fault(f"holds {' and '.join(lacks)}", "copy what is absent from the model's origin, or name another folder")


def _stamps(folder: Path) -> Stamps:
    """Size and time of every file: a folder that did not change needs no second look."""
    stats = [(file.name, file.stat() if file.exists() else file.lstat()) for file in folder.iterdir()]
    return tuple(sorted((name, stat.st_size, stat.st_mtime_ns) for name, stat in stats))


@functools.lru_cache(maxsize=64)
def _fault(folder: Path, stamps: Stamps, trained: bool) -> Fault | None:
    try:
        return next((Fault(why, fix) for why, fix in _faults(folder, trained)), None)
    except ValueError as cause:
        return Fault(str(cause), COPY)


def _faults(folder: Path, trained: bool) -> Iterator[tuple[str, str]]:
    """Raises ValueError on a file that cannot be read."""
    config = read_json(folder / "config.json")
    text = config.get("text_config") or config
    if not isinstance(text, Mapping):
        raise ValueError("its config.json holds a text_config that is no object")
    weights = stored_tensors(folder)
    if holds_weights(folder) and not weights and "snapshots" not in folder.parts:
        yield "holds no tensor in its safetensors", COPY
    if is_scoring(config) and weights:
        fix = "name a reward model whose head is one linear layer over a causal language model, or train one"
        yield from ((why, fix) for why in head_faults(weights))
    if trained:
        beside = next((name for name in QUANTISED if (folder / name).exists()), "")
        yield from quantisation_faults(config, weights, beside)
    yield from _setting_faults(config, text)
    if not quantised(config):
        yield from origin_faults(weights)
        yield from size_faults(text, weights, head=not is_scoring(config))
        if weights:
            yield from layer_faults(text, weights)
    yield from _word_faults(folder, config, text, weights)


def _word_faults(
    folder: Path, config: Mapping[str, Any], text: Mapping[str, Any], weights: Mapping[str, Tensor]
) -> Iterator[tuple[str, str]]:
    """Of ids and words. Raises ValueError."""
    said = text.get("vocab_size", config.get("vocab_size"))
    rows = (embedding_of(weights) or (said if isinstance(said, int) else 0,))[0]
    yield from token_faults(folder, vocabulary(folder), rows)
    for fields in [config] if text is config else [config, text]:
        yield from id_faults("config.json", fields, rows)
    yield from generation_faults(folder, rows)
    yield from template_faults(folder)


def _setting_faults(config: Mapping[str, Any], text: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """Settings that no model can have, and names that contradict each other."""
    counts = (
        "num_hidden_layers",
        "hidden_size",
        "num_attention_heads",
        "num_key_value_heads",
        "vocab_size",
        "head_dim",
    )
    for key in (*counts, "max_position_embeddings"):
        value = text.get(key)
        if value is not None and not isinstance(value, list) and (not isinstance(value, int) or value < 1):
            yield f"its config.json says {key}={value!r}, which is no number of them", f"correct {key} in config.json"
            return
    heads, kv_heads, head_dim = (text.get(key) for key in ("num_attention_heads", "num_key_value_heads", "head_dim"))
    if isinstance(heads, int) and isinstance(kv_heads, int) and heads % kv_heads:
        why = f"its config.json says num_key_value_heads={kv_heads}, which does not divide num_attention_heads={heads}"
        yield why, "correct num_key_value_heads in config.json"
    types, layers = text.get("layer_types"), text.get("num_hidden_layers")
    if isinstance(types, list) and isinstance(layers, int) and len(types) != layers:
        yield f"its config.json names {len(types)} layer_types of num_hidden_layers={layers}", "correct config.json"
    family, names = FAMILIES.get(str(config.get("model_type"))), config.get("architectures") or []
    scoring = family.architecture.replace(CAUSAL_LM, SCORING) if family else ""
    if family and text is config and family.architecture not in names and scoring not in names:
        why = f"its config.json says model_type={config['model_type']} and architectures={names}"
        yield (
            f"{why}: learner and engine would load different models",
            f'set architectures to ["{family.architecture}"]',
        )
    hidden = text.get("hidden_size")
    if family and not (family.head_dim or head_dim) and isinstance(heads, int) and hidden and hidden % heads:
        why = f"its config.json says num_attention_heads={heads}, which does not divide hidden_size={hidden}"
        yield why, "correct one of the two, or set head_dim"


def _brings_code(folder: Path) -> bool:
    """Whether a tokenizer may come from code beside it; whether these files can be read is another question."""
    files = (folder / "tokenizer_config.json", folder / "config.json")
    return any('"auto_map"' in file.read_text(errors="replace") for file in files if file.exists())
