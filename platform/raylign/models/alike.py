"""Whether an engine that was started with one model may be given the weights of another."""

from __future__ import annotations

from typing import Any

from raylign.chat.template import ChatTemplate, same_ids
from raylign.models.tokenizer import load_tokenizer

PASSING = ("_name_or_path", "transformers_version", "dtype", "torch_dtype", "use_cache")  # say nothing of the model


def alike(one: str, other: str, trust_remote_code: bool = False) -> bool:
    """Whether two models are the same but for their weights: shape, rotary settings and all of their configuration,
    tokenizer, chat template and the ids that end a turn.
    """
    if one == other:
        return True
    settings, others = (_settings(model, trust_remote_code) for model in (one, other))
    if settings != others:
        return False
    first, second = (ChatTemplate(load_tokenizer(model, trust_remote_code)) for model in (one, other))
    return same_ids(first, second)


def _settings(model: str, trust_remote_code: bool) -> dict[str, Any]:
    from transformers import AutoConfig  # with torch, which a driver that only plans does without

    config = AutoConfig.from_pretrained(model, trust_remote_code=trust_remote_code).to_dict()
    return {name: value for name, value in config.items() if name not in PASSING}
