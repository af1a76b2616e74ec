"""What fits the memory of its GPUs is accepted and what does not is refused, from shapes alone."""

from __future__ import annotations

import json
import shutil
import struct
import time
from pathlib import Path
from typing import Any

import pytest

from raylign.capacity import device_memory
from raylign.config.compose import compose
from raylign.config.schema import ClusterConfig, LearnerConfig, Offload
from raylign.errors import PlanError
from raylign.models.facts import ModelFacts
from raylign.models.memory import learner_sizes, state_bytes
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
NODES = {"gpu": (1, 1), "node": (1, 8), "cluster": (4, 8)}
FITS = {  # (scale, device GiB) -> models
    ("gpu", 80): {"Qwen3-0.6B"},
    ("gpu", 141): {"Qwen3-0.6B", "Qwen3-1.7B"},
    ("node", 80): {"Qwen3-0.6B", "Qwen3-1.7B"},
    ("node", 141): {"Qwen3-0.6B", "Qwen3-1.7B", "Qwen2.5-7B", "Qwen3-8B"},
    ("cluster", 80): set(SHAPES) - {"Qwen3-32B"},
    ("cluster", 141): set(SHAPES) - {"Qwen3-32B"},
}


def folder_of(name: str, at: Path) -> Path:
    """A checkpoint's configuration and header; its data is a hole in the file."""
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
    shapes = {"model.embed_tokens.weight": (vocab, hidden), "model.norm.weight": (hidden,)}
    shapes |= {} if tied else {"lm_head.weight": (vocab, hidden)}
    for layer in range(layers):
        at_layer = f"model.layers.{layer}"
        for part, out, into in (
            ("self_attn.q_proj", heads * head_dim, hidden),
            ("self_attn.k_proj", kv_heads * head_dim, hidden),
            ("self_attn.v_proj", kv_heads * head_dim, hidden),
            ("self_attn.o_proj", hidden, heads * head_dim),
            ("mlp.gate_proj", intermediate, hidden),
            ("mlp.up_proj", intermediate, hidden),
            ("mlp.down_proj", hidden, intermediate),
        ):
            shapes[f"{at_layer}.{part}.weight"] = (out, into)
        shapes |= {f"{at_layer}.{norm}.weight": (hidden,) for norm in ("input_layernorm", "post_attention_layernorm")}
    header, end = {}, 0
    for tensor, shape in shapes.items():
        size = 2 * shape[0] * (shape[1] if len(shape) > 1 else 1)
        header[tensor] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [end, end + size]}
        end += size
    at.mkdir()
    (at / "config.json").write_text(json.dumps(fields))
    encoded = json.dumps(header).encode()
    with (at / "model.safetensors").open("wb") as stream:
        stream.write(struct.pack("<Q", len(encoded)) + encoded)
        stream.truncate(8 + len(encoded) + end)
    return at


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory, tiny_model: Path) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("shapes")
    made = {name: folder_of(name, root / name) for name in SHAPES}
    for folder in made.values():
        for file in tiny_model.glob("tokenizer*"):
            shutil.copy(file, folder)
    return made


def plan_of(path: Path, scale: str, *overrides: str) -> Plan:
    given = [f"model.path={path}", f"scale={scale}", "data.task=basic_arithmetic", "variant=grpo", *overrides]
    return make_plan(compose(["recipe=grpo", *given]))


def placed(plan: Plan, scale: str, device_gb: float) -> Plan:
    nodes, gpus = NODES[scale]
    return plan.check([{"CPU": 128.0, "GPU": float(gpus)}] * nodes, device_gb)


@pytest.mark.parametrize(("scale", "device_gb"), FITS)
def test_what_fits_is_accepted_and_the_rest_refused(folders: dict[str, Path], scale: str, device_gb: int) -> None:
    accepted, begun = set(), time.monotonic()
    for name, path in folders.items():
        plan = plan_of(path, scale)
        assert placed(plan, scale, 0), "unknown memory refuses nothing"
        try:
            placed(plan, scale, device_gb)
            accepted.add(name)
        except PlanError as refused:
            assert "fix: " in str(refused) and f"GPU of {device_gb} GB" in str(refused)
    assert accepted == FITS[scale, device_gb]
    assert time.monotonic() - begun < 5 * len(SHAPES)


# GB on a rank: 16,384 tokens, checkpointing.
ESTIMATES = [
    ("Qwen3-1.7B", 2, 1, 38.6), ("Qwen2.5-7B", 2, 4, 60), ("Qwen2.5-7B", 2, 8, 45), ("Qwen2.5-7B", 3, 8, 35),
    ("Qwen2.5-7B", 2, 1, 155), ("Qwen3-14B", 3, 8, 57), ("Qwen3-32B", 3, 4, 176), ("Qwen3-32B", 3, 8, 102),
    ("Qwen3-32B", 3, 16, 65),
]  # fmt: skip


@pytest.mark.parametrize(("name", "stage", "ranks", "gb"), ESTIMATES)
def test_a_rank_takes_what_was_estimated(folders: Any, name: str, stage: int, ranks: int, gb: float) -> None:
    plan = plan_of(folders[name], "node", f"learner.zero_stage={stage}", f"learner.ranks={ranks}")
    assert plan.role("learner").memory_gb * 2**30 / 1e9 == pytest.approx(gb, rel=0.15)


@pytest.mark.parametrize(
    ("stage", "ranks", "measured"), [(1, 1, 20), (1, 2, 14), (2, 1, 18), (2, 2, 10), (3, 1, 18), (3, 2, 9)]
)
def test_bytes_a_parameter_are_the_measured_ones(stage: int, ranks: int, measured: float) -> None:
    assert sum(state_bytes(stage, ranks, bf16=True).values()) == pytest.approx(measured, rel=0.15)


def test_what_would_make_it_fit_does(folders: dict[str, Path]) -> None:
    path = folders["Qwen2.5-7B"]
    with pytest.raises(PlanError, match=r"learner\.zero_stage=3"):
        placed(plan_of(path, "node"), "node", 80)
    placed(plan_of(path, "node", "learner.zero_stage=3"), "node", 80)
    with pytest.raises(PlanError, match=r"a smaller rollout\.gpu_memory"):
        placed(plan_of(folders["Qwen3-1.7B"], "gpu"), "gpu", 80)
    placed(plan_of(folders["Qwen3-1.7B"], "gpu", "rollout.gpu_memory=0.3"), "gpu", 80)
    with pytest.raises(PlanError, match=r"rollout needs .* fix: .*rollout\.tensor_parallel=2"):
        placed(plan_of(folders["Qwen3-32B"], "node"), "node", 48)
    shape = ModelFacts(name="x", parameters=10**9, context=1, layers=2, hidden=8, vocab=8, kv_values=8)
    kept = [sum(learner_sizes(LearnerConfig(offload=way), 1, "bfloat16", shape).values()) for way in Offload]
    assert kept[0] - kept[1] == 12e9, "master weights and moments leave the device"


def test_an_engine_that_shares_its_gpu_is_given_its_bytes(folders: dict[str, Path]) -> None:
    role = placed(plan_of(folders["Qwen3-0.6B"], "gpu"), "gpu", 80).role("rollout")
    assert role.context_gb < role.kv_bytes / 2**30 < 0.4 * 80 - role.memory_gb
    assert placed(plan_of(folders["Qwen3-0.6B"], "node"), "node", 80).role("rollout").kv_bytes == 0
    assert plan_of(folders["Qwen3-0.6B"], "gpu").role("rollout").kv_bytes == 0, "unknown until the device is"


def test_the_memory_of_a_device_is_set_asked_or_unknown() -> None:
    assert device_memory(ClusterConfig(gpu_memory_gb=24)) == 24
    h100 = {"GPU": 8.0, "accelerator_type:H100": 1.0}
    assert device_memory(ClusterConfig(), [{"CPU": 4.0}, h100]) == 79
    assert device_memory(ClusterConfig(), [h100, {"GPU": 1.0, "accelerator_type:L4": 1.0}]) == 22
    assert device_memory(ClusterConfig(), [{"GPU": 1.0, "accelerator_type:FPGA": 1.0}]) == 0
