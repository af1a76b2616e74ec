"""Models by their shapes alone, and the plans of runs with them."""

from __future__ import annotations

import json
from pathlib import Path

from raylign.config.compose import compose
from raylign.plan import Plan, make_plan

# layers, hidden, heads, kv heads, head_dim, intermediate, vocab, tied
SHAPES = {
    "Qwen3-0.6B": (28, 1024, 16, 8, 128, 3072, 151936, True),
    "Qwen3-1.7B": (28, 2048, 16, 8, 128, 6144, 151936, True),
    "Qwen2.5-7B": (28, 3584, 28, 4, 128, 18944, 152064, False),
    "Qwen3-8B": (36, 4096, 32, 8, 128, 12288, 151936, False),
    "Qwen3-14B": (40, 5120, 40, 8, 128, 17408, 151936, False),
    "Qwen3-32B": (64, 5120, 64, 8, 128, 25600, 151936, False),
}


def folder_of(name: str, at: Path) -> Path:
    """A checkpoint's configuration alone."""
    layers, hidden, heads, kv_heads, head_dim, intermediate, vocab, tied = SHAPES[name]
    fields = {
        "architectures": ["Qwen3ForCausalLM" if "Qwen3" in name else "Qwen2ForCausalLM"],
        "model_type": "qwen3" if "Qwen3" in name else "qwen2",
        "num_hidden_layers": layers,
        "hidden_size": hidden,
        "num_attention_heads": heads,
        "num_key_value_heads": kv_heads,
        "head_dim": head_dim,
        "intermediate_size": intermediate,
        "vocab_size": vocab,
        "tie_word_embeddings": tied,
        "max_position_embeddings": 40960,
    }
    at.mkdir()
    (at / "config.json").write_text(json.dumps(fields))
    return at


def plan_of(path: Path, scale: str, *overrides: str) -> Plan:
    given = [
        f"model.path={path}",
        f"scale={scale}",
        "data.task=basic_arithmetic",
        "data.size=4096",
        "variant=grpo",
        *overrides,
    ]
    return make_plan(compose(["recipe=grpo", *given], to_run=False))
