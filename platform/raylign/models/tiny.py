"""A tiny Qwen3 with a byte-level tokenizer and a chat template, built from a config, seeded and cached.

It exists so that every recipe runs on a laptop: the same files, loaders and engines as for any Hugging Face model.
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import tempfile
from pathlib import Path

from raylign.config.schema import TinyModel
from raylign.records import content_id

PAD, END, SYSTEM, USER, ASSISTANT, TOOL = "<|pad|>", "<|end|>", "<|system|>", "<|user|>", "<|assistant|>", "<|tool|>"
SPECIAL = (PAD, END, SYSTEM, USER, ASSISTANT, TOOL)
TEMPLATE = (
    "{%- if tools -%}"
    "{{- '<|tool|>' -}}"
    "{%- for tool in tools -%}"
    "{%- set function = tool['function'] if 'function' in tool else tool -%}"
    "{{- function['name'] + '(' + function['parameters']['properties'] | join(',') + ')' -}}"
    "{%- endfor -%}"
    "{{- '<|end|>' -}}"
    "{%- endif -%}"
    "{%- for message in messages -%}"
    "{{- '<|' + message['role'] + '|>' -}}"
    "{%- if message['reasoning_content'] -%}{{- '<think>' + message['reasoning_content'] + '</think>' -}}{%- endif -%}"
    "{{- message['content'] -}}"
    "{%- for call in message['tool_calls'] or [] -%}"
    "{%- if message['content'] or not loop.first -%}{{- '\n' -}}{%- endif -%}"
    "{%- set function = call['function'] -%}"
    "{{- '<tool_call>' + {'name': function['name'], 'arguments': function['arguments']} | tojson + '</tool_call>' -}}"
    "{%- endfor -%}"
    "{{- '<|end|>' -}}"
    "{%- endfor -%}"
    "{%- if add_generation_prompt -%}{{- '<|assistant|>' -}}{%- endif -%}"
)
FORMAT = 3  # part of the cache key; raise it when the files below change


def model_cache(folder: str = "") -> Path:
    """Where tiny models are kept: below the named folder, or below the user's own cache."""
    if folder:
        return Path(folder).expanduser() / "models"
    return Path(os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")) / "raylign" / "models"


def build_tiny_model(shape: TinyModel, cache: Path | None = None) -> Path:
    """Folder of the model with this shape and seed; made once, then reused.

    Writes config.json, model.safetensors, tokenizer.json, tokenizer_config.json and the chat template, fp32.
    """
    cache = cache or model_cache()
    fields = dataclasses.asdict(shape)
    folder = cache / f"tiny-{content_id(str(FORMAT), json.dumps(fields, sort_keys=True))}"
    if (folder / "model.safetensors").exists():
        return folder
    cache.mkdir(parents=True, exist_ok=True)
    staging = Path(tempfile.mkdtemp(dir=cache, prefix=".building-"))
    try:
        _write(shape, staging)
        os.rename(staging, folder)
    except OSError:
        if not (folder / "model.safetensors").exists():  # otherwise another process was quicker
            raise
    finally:
        shutil.rmtree(staging, ignore_errors=True)
    return folder


def _write(shape: TinyModel, folder: Path) -> None:
    import torch
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast, Qwen3Config, Qwen3ForCausalLM
    from transformers.utils import logging

    logging.disable_progress_bar()  # it would break into the run's own display
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {token: index for index, token in enumerate((*SPECIAL, *letters))}
    core = Tokenizer(models.BPE(vocab=vocab, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    tokenizer = PreTrainedTokenizerFast(
        tokenizer_object=core, pad_token=PAD, eos_token=END, additional_special_tokens=list(SPECIAL[2:])
    )
    tokenizer.chat_template = TEMPLATE
    tokenizer.model_max_length = shape.context
    tokenizer.save_pretrained(folder)

    config = Qwen3Config(
        vocab_size=len(vocab),
        hidden_size=shape.hidden_size,
        num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads,
        num_key_value_heads=shape.kv_heads,
        head_dim=shape.head_dim,
        intermediate_size=shape.intermediate_size,
        max_position_embeddings=shape.context,
        tie_word_embeddings=shape.tie_embeddings,
        initializer_range=shape.init_std,
        pad_token_id=vocab[PAD],
        eos_token_id=vocab[END],
        bos_token_id=None,
    )
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(shape.seed)
        model = Qwen3ForCausalLM(config)
    model.generation_config.eos_token_id = vocab[END]
    model.generation_config.pad_token_id = vocab[PAD]
    model.save_pretrained(folder)
