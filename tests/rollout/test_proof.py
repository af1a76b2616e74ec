"""Over 20 seeds in bf16: no healthy update is refused, and no tensor that stayed behind is missed.

The engine is the same tiny model run another way: other batches, another attention, fused and packed digests. Its
logits have the size of a trained model's, so that rounding is what it is there.
"""

from __future__ import annotations

import copy
import hashlib
from typing import Any

import numpy as np
import pytest
import torch

from raylign.actors.rollout.engine import FLOAT32_GAP, EngineSpec, Gap
from raylign.actors.rollout.proof import Held, Proof
from raylign.actors.rollout.weight_extension import decoys
from raylign.config.schema import ModelConfig, RolloutConfig
from raylign.errors import EngineDeadError

FUSED = {"qkv_proj": ["q_proj", "k_proj", "v_proj"], "gate_up_proj": ["gate_proj", "up_proj"]}
SEEDS = 20  # `benchmarks.weight_proof` does the same with vLLM
RATES = (1e-6, 1e-6, 1e-4)


def digest(*tensors: torch.Tensor) -> str:
    sha = hashlib.sha256()
    for tensor in tensors:
        sha.update(tensor.detach().contiguous().view(-1).view(torch.uint8).numpy())
    return sha.hexdigest()


class Sides:
    """A learner's weights with fp32 masters, and what the engine holds of them."""

    def __init__(self, model: Any, seed: int) -> None:
        self.learner = copy.deepcopy(model)
        draw = torch.Generator().manual_seed(seed)
        for name, weight in self.learner.named_parameters():
            if "norm" not in name:
                weight.data = torch.randn(weight.shape, generator=draw).mul_(weight.shape[-1] ** -0.5).bfloat16()
        self.draw, ids = draw, torch.randint(6, 200, (8, 17), generator=draw)
        self.masters = {name: weight.detach().float() for name, weight in self.learner.named_parameters()}
        self.write()
        with torch.no_grad():  # top logits of some 20 that leave a choice: bf16 rounds them by 0.06
            hidden = self.learner.model(ids).last_hidden_state.float().mean((0, 1))
            head = self.masters["lm_head.weight"]
            head *= 3 / self.learner(ids).logits.float().max(-1).values.mean()
            head += 17 * hidden / hidden.square().sum()
        self.write()
        self.engine, self.ids = copy.deepcopy(self.learner), ids
        self.engine.set_attn_implementation("eager")
        with torch.no_grad():
            for step in range(1, 17):
                logits = self.learner(self.ids).logits[:, step - 1].float()
                self.ids[:, step] = torch.multinomial(logits.softmax(-1), 1, generator=draw)[:, 0]

    def step(self, rate: float) -> None:
        """Adam's first steps: every weight moves by the rate, in some direction."""
        for master in self.masters.values():
            master += rate * torch.randn(master.shape, generator=self.draw).sign()
        self.write()

    def write(self) -> None:
        for name, weight in self.learner.named_parameters():
            weight.data = self.masters[name].bfloat16()

    def sync(self, stale: str = "") -> None:
        """The engine takes all weights but those whose names hold `stale`."""
        for (name, target), source in zip(self.engine.named_parameters(), self.learner.parameters(), strict=True):
            if not stale or stale not in name:
                target.data = source.data.clone()

    def published(self) -> dict[str, str]:
        return {name: digest(weight) for name, weight in self.learner.named_parameters()}

    def layout(self) -> list[tuple[str, str, tuple[int, ...], int]]:
        return [(name, "bfloat16", tuple(w.shape), 0) for name, w in self.learner.named_parameters()]

    def held(self) -> Held:
        digests, weights = {}, dict(self.engine.named_parameters())
        for name in weights:
            whole = next((whole for whole, parts in FUSED.items() if f".{parts[0]}." in name), None)
            if whole:
                parts = [weights[name.replace(FUSED[whole][0], part)] for part in FUSED[whole]]
                digests[name.replace(FUSED[whole][0], whole).removesuffix(".weight") + ".packed"] = digest(*parts)
            elif not any(f".{part}." in name for parts in FUSED.values() for part in parts):
                digests["lm_head.packed" if name.startswith("lm_head") else name] = digest(weights[name])
        return Held(digests=digests, dtypes=dict.fromkeys(digests, "bfloat16"), fused=FUSED)

    def gap(self) -> Gap:
        """Learner: all rows in one batch. Engine: a few at a time, with another attention."""
        with torch.no_grad():
            learner = self.learner(self.ids).logits
            engine = torch.cat([self.engine(rows).logits for rows in self.ids.split(3)])
        pair = [
            side[:, :-1].float().log_softmax(-1).gather(-1, self.ids[:, 1:, None])[..., 0].numpy()
            for side in (engine, learner)
        ]
        return Gap.between(*pair)

    def begin(self) -> Proof:
        """A proof that has seen decoys."""
        proof, weights = Proof("bfloat16", 0.05), {name: w.data for name, w in self.engine.named_parameters()}
        for _, weight in self.engine.named_parameters():
            weight.data = torch.full_like(weight, 0.3)
        proof.begin(self.held())
        for name, weight in self.engine.named_parameters():
            weight.data = weights[name]
        return proof

    def prove(self, proof: Proof, version: int) -> float:
        proof.bytes(version, self.layout(), self.published(), self.held())
        return proof.meaning(version, self.gap()).mean


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Any:
    from transformers import AutoModelForCausalLM

    from raylign.config.schema import TinyModel
    from raylign.models.tiny import build_tiny_model

    shape = TinyModel(
        hidden_size=64, layers=2, heads=2, kv_heads=1, head_dim=32, intermediate_size=128, tie_embeddings=False
    )
    path = build_tiny_model(shape, tmp_path_factory.mktemp("bf16"))
    return AutoModelForCausalLM.from_pretrained(path, dtype=torch.bfloat16).eval()


def test_healthy_updates_are_never_refused_and_stale_tensors_always(model: Any) -> None:
    """Steps of 1e-6 among them, which move a head by less than rounding."""
    places = ("lm_head", "embed_tokens", "layers.1.self_attn", "layers.0.mlp.down_proj")
    stale, gaps = 0, []
    for seed in range(SEEDS):
        sides = Sides(model, seed)
        proof = sides.begin()
        gaps.append(sides.prove(proof, 0))
        for version, rate in enumerate(RATES, 1):
            sides.step(rate)
            sides.sync(stale=places[(seed + version) % len(places)])
            with pytest.raises(EngineDeadError, match="did not change with"):
                sides.prove(copy.deepcopy(proof), version)
            stale += 1
            sides.sync()
            gaps.append(sides.prove(proof, version))
    assert stale == SEEDS * len(RATES)
    assert np.median(gaps) > 3e-3, "rounding is not what it is in a trained model"
    print(f"gaps: median {np.median(gaps):.4f}, largest {np.max(gaps):.4f}")


def test_a_tensor_that_holds_something_else_is_found_by_meaning(model: Any) -> None:
    for seed in range(20):
        sides = Sides(model, seed)
        proof = sides.begin()
        sides.prove(proof, 0)
        sides.step(1e-6)
        sides.sync()
        sides.engine.lm_head.weight.data = sides.engine.lm_head.weight.data.roll(1, 0)
        with pytest.raises(EngineDeadError, match="nat on average"):
            sides.prove(proof, 1)


def check(published: list[dict[str, str]], held: list[dict[str, str]], dtype: str = "float32") -> None:
    proof = Proof("float32", 1e-4)
    proof.begin(Held(digests=dict.fromkeys(held[0], "decoy"), dtypes=dict.fromkeys(held[0], "float32"), fused=FUSED))
    for version, (sent, kept) in enumerate(zip(published, held, strict=True)):
        layout = [(name, dtype, (1,), 0) for name in sent]
        proof.bytes(version, layout, sent, Held(digests=kept, dtypes=dict.fromkeys(kept, "float32"), fused=FUSED))


@pytest.mark.parametrize(
    ("source", "engine"),
    [
        ("model.layers.3.self_attn.k_proj.weight", "model.layers.3.self_attn.qkv_proj.packed"),
        ("model.layers.3.self_attn.k_proj.weight", "model.layers.3.self_attn.k_proj.packed"),
        ("model.layers.3.mlp.experts.7.up_proj.weight", "model.layers.3.mlp.experts.routed_experts.w13_weight[7]"),
        ("model.layers.3.mlp.experts.7.up_proj.weight", "model.layers.3.mlp.experts.w13_weight"),
        ("model.layers.3.mlp.experts.gate_up_proj", "model.layers.3.mlp.experts.routed_experts.w13_weight"),
        ("model.layers.3.mlp.experts.7.down_proj.weight", "model.layers.3.mlp.experts.w2_weight"),
        ("model.embed_tokens.weight", "lm_head.packed"),
        ("model.language_model.norm.weight", "language_model.model.norm.weight"),
    ],
)
def test_each_engine_tensor_is_held_to_its_sources(source: str, engine: str) -> None:
    other = {
        "model.layers.3.self_attn.q_proj.weight": "q",
        "model.layers.3.self_attn.v_proj.weight": "v",
        "model.layers.1.self_attn.k_proj.weight": "x",
    }
    check([{**other, source: "1"}, {**other, source: "2"}], [{engine: "a"}, {engine: "b"}])
    with pytest.raises(EngineDeadError, match="did not change with"):
        check([{**other, source: "1"}, {**other, source: "2"}], [{engine: "a"}, {engine: "a"}])
    with pytest.raises(EngineDeadError, match="was published for it did not"):
        check([{**other, source: "1"}, {**other, source: "1"}], [{engine: "a"}, {engine: "b"}])


def test_what_cannot_be_told_is_not_held_against_an_engine() -> None:
    """An unknown name, and a source that is cast on its way: a change may not show. Without any it may not change."""
    check([{"a.b": "1"}, {"a.b": "2"}], [{"unknown.name": "x"}, {"unknown.name": "x"}])
    check([{"m.norm.weight": "1"}, {"m.norm.weight": "2"}], [{"m.norm.weight": "x"}] * 2, dtype="bfloat16")
    with pytest.raises(EngineDeadError):
        check([{"a.b": "1"}, {"a.b": "1"}], [{"unknown.name": "x"}, {"unknown.name": "y"}])


def test_the_first_update_of_an_engine_is_proven_by_bytes_too() -> None:
    """Nothing of the decoys may stay, whatever the dtype on the way; without decoys nothing is proven."""
    sent, kept = {"model.norm.weight": "1"}, {"model.norm.weight": "decoy"}
    for dtype in ("float32", "bfloat16"):
        with pytest.raises(EngineDeadError, match=r"version 0 are not live: model\.norm\.weight of the engine did not"):
            check([sent], [kept], dtype)
    check([sent, sent], [{"model.norm.weight": "a"}] * 2)
    with pytest.raises(EngineDeadError, match="no decoys were loaded"):
        Proof("float32", 1e-4).bytes(0, [], sent, Held(digests=kept, dtypes={}, fused={}))


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_decoys_differ_in_every_place_from_any_number(dtype: torch.dtype) -> None:
    numbers = [0.0, -0.0, 0.5, 0.4999, 0.501, 0.25, 0.75, 1.0, 0.999, 300.0, -1e30, float("inf"), float("nan")]
    tensor = torch.tensor(numbers * 3, dtype=dtype).view(3, -1)
    ((name, other),) = decoys([("x", tensor)])
    assert name == "x" and other.dtype == dtype and other.shape == tensor.shape
    for cast in (torch.float32, torch.bfloat16, torch.float16):
        assert (other.to(cast) != tensor.to(cast)).all() and other.isfinite().all()


def test_one_of_several_experts_is_held_to_its_own_source() -> None:
    """Where a checkpoint has all experts in one tensor nothing can be told of a single one."""
    names = [f"model.layers.3.mlp.experts.{number}.down_proj.weight" for number in range(2)]
    engine = [f"model.layers.3.mlp.experts.w2_weight{part}" for part in ("", "[0]", "[1]")]
    old = dict.fromkeys(names, "1")
    check([old, {**old, names[1]: "2"}], [dict.fromkeys(engine, "a"), {engine[0]: "b", engine[1]: "a", engine[2]: "b"}])
    with pytest.raises(EngineDeadError, match=r"w2_weight\[1\] of the engine did not change"):
        stayed = {**dict.fromkeys(engine, "a"), engine[0]: "b"}
        check([old, {**old, names[1]: "2"}], [dict.fromkeys(engine, "a"), stayed])
    whole = "model.layers.3.mlp.experts.down_proj"
    check([{whole: "1"}, {whole: "2"}], [dict.fromkeys(engine, "a"), {**dict.fromkeys(engine, "b"), engine[2]: "a"}])


def test_a_shard_alone_may_stay() -> None:
    ranks = [{"digests": {"x": "a"}, "dtypes": {"x": "float32"}, "fused": {}} for _ in range(2)]
    before = Held.merge(ranks)  # type: ignore[arg-type]
    ranks[1]["digests"] = {"x": "b"}
    assert Held.merge(ranks).digests["x"] != before.digests["x"]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("dtype", "asked", "ceiling"),
    [("bfloat16", 0.03, 0.03), ("bfloat16", 0.3, 0.3), ("float32", 0.05, FLOAT32_GAP), ("float32", 1e-6, 1e-6)],
)
def test_the_ceiling_is_the_setting_and_in_fp32_no_more_than_rounding(dtype: str, asked: float, ceiling: float) -> None:
    settings = RolloutConfig(max_publish_gap=asked), ModelConfig(dtype=dtype, max_context=64)
    assert EngineSpec.of(*settings, "m").max_gap == ceiling and FLOAT32_GAP <= 1e-4


@pytest.mark.parametrize(("dtype", "ceiling"), [("float32", 1e-4), ("bfloat16", 0.05)])
def test_the_floor_is_the_first_gap_and_has_a_ceiling(dtype: str, ceiling: float) -> None:
    proof = Proof(dtype, ceiling)
    with pytest.raises(EngineDeadError, match="max_publish_gap"):
        proof.meaning(0, Gap(mean=ceiling * 1.01, max=1.0))
    proof.meaning(0, Gap(mean=ceiling * 0.5, max=1.0))
    proof.meaning(1, Gap(mean=ceiling * 1.4, max=1.0))
    with pytest.raises(EngineDeadError, match="version 2 are not live"):
        proof.meaning(2, Gap(mean=ceiling * 1.6, max=1.0))
