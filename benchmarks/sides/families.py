"""Tiny models of many causal families, built from their configs and never downloaded.

Each shape makes the family's own traits show on rows of at most 64 tokens: windows of 8 tokens, both kinds of layers in
hybrids, several experts, biases, caps and scales that are not neutral, dropout and noise that are not zero. The weights
are random but large enough that logits are far from flat.
"""

from __future__ import annotations

import re
import shutil
from pathlib import Path
from typing import Any

from benchmarks.sides.family_dense import PLAIN
from benchmarks.sides.family_experts import EXPERTS
from benchmarks.sides.family_parts import IDS, VOCAB, Family
from benchmarks.sides.family_state import CONDITIONAL, STATEFUL

FAMILIES: tuple[Family, ...] = (*PLAIN, *EXPERTS, *STATEFUL, *CONDITIONAL)
BY_NAME = {family.name: family for family in FAMILIES}
# Parameters whose values mean something by themselves (decays, time steps): noise is added to the class's own start.
KEPT = re.compile(r"(A_log|\bD|dt_bias|dt_proj\.bias|time_\w+|recurrent_param|slope\w*|alpha_[pn]|\bA|rg_lru\.\w+)$")


def config_of(family: Family) -> Any:
    """The family's transformers config."""
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING

    config_class = CONFIG_MAPPING[family.model_type]
    return config_class(**({} if family.conditional else {"vocab_size": VOCAB, **IDS}), **dict(family.settings))


def build(family: Family, folder: Path, seed: int = 0) -> Path:
    """Write the family's tiny model with a byte-level tokenizer to `folder` and return it. fp32, seeded."""
    import torch
    from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

    loader: Any = AutoModelForImageTextToText if family.conditional else AutoModelForCausalLM
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = loader.from_config(config_of(family), dtype=torch.float32)
        randomise(model)
    model.generation_config.eos_token_id, model.generation_config.pad_token_id = 2, 0
    model.save_pretrained(folder)
    _copy_tokenizer(folder)
    return folder


def randomise(model: Any) -> None:
    """Weights of unit gain, norms around their start, biases that matter; see `KEPT` for the others."""
    import torch

    inputs, outputs = model.get_input_embeddings(), model.get_output_embeddings()
    heads = {id(part.weight) for part in (inputs, outputs) if part is not None}
    gain = 0.2 if len(heads) == 1 else 0.4  # a tied head would say little but the token that it sees
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            noise = torch.randn(parameter.shape)
            if id(parameter) in heads:
                parameter.copy_(gain * noise)
            elif parameter.dim() < 2 or min(parameter.shape[:2]) == 1 or KEPT.search(name):
                parameter.add_(0.1 * noise)
            else:
                parameter.copy_(noise * parameter.shape[-1] ** -0.5)
        for name, buffer in model.named_buffers():
            if name.endswith("e_score_correction_bias") or name.endswith("expert_bias"):
                buffer.copy_(0.1 * torch.randn(buffer.shape))


def _copy_tokenizer(folder: Path) -> None:
    """A byte-level tokenizer with a chat template: 262 of the model's ids."""
    from raylign.config.schema import TinyModel
    from raylign.models.tiny import build_tiny_model

    source = build_tiny_model(TinyModel(hidden_size=16, layers=1, heads=1, kv_heads=1, head_dim=16))
    for path in source.iterdir():
        if path.name.startswith(("tokenizer", "chat_template", "special_tokens")):
            shutil.copy(path, folder / path.name)
