"""Where config.json and the stored weights of a model contradict each other, and weights that are no model's own."""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from typing import Any

from raylign.models.headers import INDEX, Tensor
from raylign.models.tensor_rules import FAMILIES, IGNORED, expected_shapes, layer_tensors

LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks|block)\.(\d+)\.")
LAST_NORM = re.compile(r"^(?!.*layers\.\d+\.)(.*\.)?norm\.weight$")
EMBEDDINGS = ("embed_tokens.weight", "wte.weight", "embed_in.weight", "word_embeddings.weight")
WRAPPERS = ("_orig_mod.", "module.", "_fsdp_wrapped_module.")  # torch.compile, DDP, FSDP
OTHER_TOWERS = ("vision", "visual", "audio", "image", "mtp")
FLOATS = ("F64", "F32", "F16", "BF16")
PACKED = (".qweight", ".qzeros", ".SCB", ".absmax", ".quant_state", ".weight_scale", ".weight_scale_inv", "_blocks")
UNEQUAL = ("block_configs", "num_kv_shared_layers")  # settings of models whose layers differ by themselves
COPY = "copy the model's whole folder again, or name another"
TOLD = "does not fit together: config.json says"
Weights = Mapping[str, Tensor]
Faults = Iterator[tuple[str, str]]  # what is wrong, what to do


def embedding_of(weights: Weights) -> tuple[int, ...]:
    """Shape of the input embedding, [tokens, width]; empty where none is found by its name."""
    return next((weights[name].shape for name in sorted(weights) if name.endswith(EMBEDDINGS)), ())


def quantised(config: Mapping[str, Any]) -> str:
    """How config.json says that its weights are packed; empty when they are not."""
    for fields in (config, config.get("text_config") or {}):
        for key in ("quantization_config", "compression_config"):
            settings = fields.get(key) if isinstance(fields, Mapping) else None
            if settings:
                method = settings.get("quant_method", "unknown") if isinstance(settings, Mapping) else settings
                return f"{key}.quant_method={method}"
    return ""


def quantisation_faults(config: Mapping[str, Any], weights: Weights, beside: str) -> Faults:
    """Weights that cannot be trained. beside: the name of a file that only quantised models have, if there is one."""
    fix = "name the model that it was quantised from (bf16, fp16 or fp32 weights)"
    if told := quantised(config):
        yield f"config.json says {told}: quantised weights cannot be trained", fix
    if beside:
        yield f"holds {beside}, which only quantised models have: quantised weights cannot be trained", fix
    for name, tensor in weights.items():
        if name.endswith(PACKED) or (tensor.dtype not in FLOATS and name.endswith(".weight")):
            yield f"holds {name} of {tensor.dtype}: quantised weights cannot be trained", fix


def origin_faults(weights: Weights) -> Faults:
    """Weights that are no model's own, by the names of their tensors."""
    if any(".lora_" in name for name in weights):
        yield "holds a LoRA adapter", "merge it into its model first (peft: merge_and_unload), and name the result"
    for wrapper in WRAPPERS:
        if weights and all(name.startswith(wrapper) for name in weights):
            yield f"was saved from a wrapped model: all its tensors begin with {wrapper!r}", "save the model inside"


def size_faults(fields: Mapping[str, Any], weights: Weights, head: bool = True) -> Faults:
    """Vocabulary, width and number of layers. fields: of the text tower; head: it has an output layer for tokens."""
    embedding = embedding_of(weights)
    if not embedding:
        return
    # GPT-2 and others spell the two otherwise; what the config does not say is not compared.
    for key, told, stored in (
        ("vocab_size", fields.get("vocab_size"), embedding[0]),
        ("hidden_size", fields.get("hidden_size", fields.get("n_embd", fields.get("d_model"))), embedding[-1]),
    ):
        if told is not None and int(told) != stored and not (key == "hidden_size" and _projects(fields)):
            yield f"{TOLD} {key}={told}, the embedding in its weights has {stored}", _set(key, stored)
    numbers = set(_layers(weights))
    told = _layer_count(fields)
    if told and numbers:
        absent = sorted(set(range(told)) - numbers)
        if absent:
            yield f"{TOLD} {told} layers, its weights lack layer {absent[0]}", COPY
        elif len(numbers) > told + int(fields.get("num_nextn_predict_layers") or 0):
            yield f"{TOLD} {told} layers, its weights have {len(numbers)}", COPY
    family = FAMILIES.get(str(fields.get("model_type")))
    tied = fields.get("tie_word_embeddings", family.tied if family else True)
    output = next((name for name in weights if "lm_head" in name or "embed_out" in name), "")
    if family and family.tensors and not any(LAST_NORM.search(name) for name in weights):
        yield "its weights lack the norm after the last layer", COPY
    if head and not tied and not output:
        why = "tie_word_embeddings=false" if "tie_word_embeddings" in fields else "nothing of tie_word_embeddings"
        yield f"{TOLD} {why}, its weights have no lm_head", COPY
    elif output.endswith("lm_head.weight") and family and weights[output].shape[0] != embedding[0]:
        yield f"does not fit together: {output} has {weights[output].shape[0]} rows, the embedding {embedding[0]}", COPY


def layer_faults(fields: Mapping[str, Any], weights: Weights) -> Faults:
    """Tensors that a layer lacks or has too many of, and shapes that config.json contradicts."""
    layers, kind = _layers(weights), str(fields.get("model_type"))
    told = _layer_count(fields) or len(layers)
    layers = {number: names for number, names in layers.items() if number < told}
    wanted, shapes = layer_tensors(kind, fields), expected_shapes(kind, fields)
    for number, names in sorted(layers.items()):
        for name in sorted(wanted - set(names)):
            yield f"its weights lack {name} of layer {number}, which {kind} has", COPY
        for name in sorted(set(names) - wanted if wanted else ()):
            if not name.endswith(IGNORED):
                why = f"its weights hold {names[name]}, which {kind} as config.json describes it has not"
                yield why, "correct config.json (model_type, attention_bias), or name another folder"
        for name, (shape, why) in shapes.items():
            if name in names and weights[names[name]].shape != shape:
                stored = list(weights[names[name]].shape)
                yield f"{TOLD} {why}, but {names[name]} has the shape {stored}, not {list(shape)}", COPY
    if not any(fields.get(key) for key in UNEQUAL):
        yield from _incomplete(fields, layers)


def _incomplete(fields: Mapping[str, Any], layers: Mapping[int, Mapping[str, str]]) -> Faults:
    """Layers that hold part of what the others of their type hold."""
    types = fields.get("layer_types")
    types = types if isinstance(types, list) and len(types) >= len(layers) else [""] * (max(layers, default=0) + 1)
    groups: dict[str, list[int]] = defaultdict(list)
    for number in sorted(layers):
        groups[str(types[number]) if number < len(types) else ""].append(number)
    for numbers in groups.values():
        counts = Counter(frozenset(layers[number]) for number in numbers)
        usual = max(counts, key=lambda names: (counts[names], len(names)))
        for number in numbers:
            lost = sorted(usual - set(layers[number]))
            if number == 0 and all(name.endswith("norm.weight") for name in lost):
                continue  # some families norm the embeddings in its place
            if lost and set(layers[number]) < usual:
                other = next(each for each in numbers if frozenset(layers[each]) == usual)
                yield (
                    f"its weights ({INDEX} where there is one) lack {lost[0]} of layer {number}; layer {other} has it",
                    COPY,
                )


def _layers(weights: Weights) -> dict[int, dict[str, str]]:
    """Layer -> name below the layer -> whole name; of the text tower."""
    layers: dict[int, dict[str, str]] = defaultdict(dict)
    for name in weights:
        place = LAYER.search(name)
        if place and not any(word in name for word in OTHER_TOWERS):
            layers[int(place[1])][name[place.end() :]] = name
    return layers


def _layer_count(fields: Mapping[str, Any]) -> int:
    told = fields.get("num_hidden_layers", fields.get("n_layer", fields.get("num_layers")))
    return told if isinstance(told, int) else 0


def _projects(fields: Mapping[str, Any]) -> bool:
    """OPT and others may embed narrower than they compute."""
    narrow = fields.get("word_embed_proj_dim") or fields.get("embedding_size")
    return narrow is not None and narrow != fields.get("hidden_size")


def _set(key: str, value: int) -> str:
    return f"set {key} in config.json to {value} if the weights are right, or {COPY}"
