"""Low-rank adapters against W + alpha / rank B A in float64: computed, merged, published, exported, told to peft."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.sides.families import BY_NAME, build
from learner_cases import CROSS_ENTROPY, OPTIM, learner_config, make_batch, read_weights, run
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM

from raylign.actors.learner import lora
from raylign.actors.learner.forward import forward_kind
from raylign.actors.learner.layouts import text_backbone
from raylign.actors.learner.published import published_groups
from raylign.actors.learner.spec import LearnerSpec
from raylign.config.compose import compose
from raylign.config.schema import AdapterSync, LoraConfig
from raylign.errors import ConfigError, LearnerError

LORA = LoraConfig(rank=4, alpha=8.0)
# plain; experts fused in memory; layers that files call otherwise; three tensors from one; a state along the row
NAMES = ("qwen3", "mixtral", "gpt_neox", "olmo_hybrid", "deepseek_v3", "phi3")


def adapted(folder: Path, config: LoraConfig = LORA, seed: int = 0) -> Any:
    """A model whose adapters add something."""
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    lora.inject(hf, text_backbone(hf), config)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for adapter in lora.adapters(hf).values():
            adapter.b.copy_(0.05 * torch.randn(adapter.b.shape, generator=generator))
    return hf


def checkpoint(hf: Any) -> dict[str, torch.Tensor]:
    groups = published_groups(hf)
    return {name: t.clone() for group in groups for (name, *_), t in zip(group.shapes, group.tensors(), strict=True)}


def logits(hf: Any) -> torch.Tensor:
    ids = torch.arange(6, 30)[None]
    with torch.no_grad():
        result: torch.Tensor = hf(input_ids=ids, use_cache=False).logits
    return result


def in_float64(weight: np.ndarray, a: np.ndarray, b: np.ndarray, scale: float) -> np.ndarray:
    """W + scale B A."""
    return weight.astype(np.float64) + scale * b.astype(np.float64) @ a.astype(np.float64)


def test_merged_weights_are_those_of_the_formula(tiny_model: Path) -> None:
    base = load_file(tiny_model / "model.safetensors")
    hf = adapted(tiny_model)
    merged = checkpoint(hf)
    assert merged.keys() == base.keys()
    for name, adapter in lora.adapters(hf).items():
        wanted = in_float64(base[name].numpy(), adapter.a.detach().numpy(), adapter.b.detach().numpy(), 8 / 4)
        assert np.abs(merged[name].numpy() - wanted).max() < 1e-6
    untouched = base.keys() - lora.adapters(hf).keys()
    assert untouched and all(torch.equal(merged[name], base[name]) for name in untouched)


def test_before_the_first_step_weights_are_the_checkpoints_bit_by_bit(tiny_model: Path) -> None:
    """Negative zeros too, which a sum with 0 would turn."""
    hf = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        hf.model.layers[0].mlp.up_proj.weight[0, :3] = -0.0
    base = {name: tensor.clone() for name, tensor in hf.state_dict().items()}
    lora.inject(hf, text_backbone(hf), LORA)
    for name, tensor in checkpoint(hf).items():
        assert tensor.numpy().tobytes() == base[name].numpy().tobytes(), name


def test_a_bf16_weight_moves_where_the_sum_rounds_to_another(tiny_model: Path) -> None:
    weight = torch.tensor([[1.0, -0.0, 256.0]], dtype=torch.bfloat16)
    a, b = torch.tensor([[0.5, 0.0, 0.25]], dtype=torch.bfloat16), torch.tensor([[1.0]], dtype=torch.bfloat16)
    merged = lora.merged(weight, a, b, 1.0)
    assert merged.dtype == torch.bfloat16 and merged.tolist() == [[1.5, 0.0, 256.0]]
    assert torch.signbit(merged[0, 1])


@pytest.mark.parametrize("name", NAMES)
def test_what_is_published_computes_what_is_trained(name: str, tmp_path: Path) -> None:
    """Under the names of the family's checkpoints: a model that reads them gives the same logits."""
    folder = build(BY_NAME[name], tmp_path)
    hf = adapted(folder)
    plain = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    assert (logits(hf) - logits(plain)).abs().max() > 1e-3
    hf.save_pretrained(tmp_path / "out", state_dict=checkpoint(hf), save_original_format=False)
    assert load_file(tmp_path / "out" / "model.safetensors").keys() == load_file(folder / "model.safetensors").keys()
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out", dtype=torch.float32)
    assert (logits(again) - logits(hf)).abs().max() < 1e-4


def test_muted_adapters_change_nothing(tiny_model: Path) -> None:
    base = load_file(tiny_model / "model.safetensors")
    hf = adapted(tiny_model)
    before = checkpoint(hf)
    with lora.muted(hf):
        assert all(torch.equal(tensor, base[name]) for name, tensor in checkpoint(hf).items())
        plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
        assert torch.equal(logits(hf), logits(plain))
    assert all(torch.equal(tensor, before[name]) for name, tensor in checkpoint(hf).items())


def test_nothing_but_adapters_is_trained_and_the_output_layer_has_none(tiny_model: Path) -> None:
    hf = adapted(tiny_model)
    trained = {name for name, parameter in hf.named_parameters() if parameter.requires_grad}
    assert trained and all(".lora_A." in name or ".lora_B." in name for name in trained)
    assert {name.rpartition(".")[0].rpartition(".")[2] for name in lora.adapters(hf)} == {
        *("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
    }
    some = adapted(tiny_model, LoraConfig(rank=4, targets=["q_proj", "v_proj"]))
    assert {name.split(".")[-2] for name in lora.adapters(some)} == {"q_proj", "v_proj"}


def test_routers_and_experts_have_no_adapters(tmp_path: Path) -> None:
    hf = adapted(build(BY_NAME["qwen3_moe"], tmp_path))
    assert {name.split(".")[-2] for name in lora.adapters(hf)} == {"q_proj", "k_proj", "v_proj", "o_proj"}
    with pytest.raises(ValueError, match="names gate_proj"):
        adapted(build(BY_NAME["deepseek_v3"], tmp_path), LoraConfig(rank=4, targets=["gate_proj"]))


def test_targets_that_are_no_linear_layers_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"names q_porj.*down_proj, gate_proj, k_proj"):
        adapted(tiny_model, LoraConfig(rank=4, targets=["q_porj"]))
    with pytest.raises(ValueError, match="no linear layer that can take an adapter"):
        adapted(build(BY_NAME["gpt2"], tmp_path))


def test_an_adapter_that_takes_no_part_is_refused(tiny_model: Path) -> None:
    """A family that reads a layer's weight and never calls it would train its adapter for nothing."""
    hf = adapted(tiny_model)
    mlp = hf.model.layers[1].mlp
    mlp.forward = lambda x: mlp.down_proj(mlp.act_fn(x @ mlp.gate_proj.weight.T) * mlp.up_proj(x))
    with pytest.raises(ValueError, match=r"never calls model\.layers\.1\.mlp\.gate_proj .1 of 14"), lora.all_used(hf):
        logits(hf)
    whole = adapted(tiny_model)
    with lora.all_used(whole):
        logits(whole)


def test_a_reward_models_head_is_trained_beside_its_adapters(tiny_model: Path) -> None:
    spec = LearnerSpec(model_path=str(tiny_model), learner=learner_config(), total_steps=1, kind="reward_model")
    kind = forward_kind(spec)
    model: Any = kind.load()
    lora.inject(model.hf, text_backbone(model.hf), LORA, kind.heads())
    trained = {name for name, parameter in model.hf.named_parameters() if parameter.requires_grad}
    assert "score.weight" in trained and len(trained) == 2 * 14 + 1
    with torch.no_grad():
        model.hf.score.weight.fill_(2.0)
    assert torch.equal(checkpoint(model.hf)["score.weight"], model.hf.score.weight)


def test_inputs_are_dropped_only_while_it_is_asked(tiny_model: Path) -> None:
    hf = adapted(tiny_model, LoraConfig(rank=4, dropout=0.5))
    still = logits(hf)
    assert torch.equal(logits(hf), still)
    lora.drop_out(hf)
    assert not torch.equal(logits(hf), logits(hf))
    hf.eval()
    assert torch.equal(logits(hf), still)


def test_peft_loads_what_is_saved(tiny_model: Path, tmp_path: Path) -> None:
    from peft import PeftModel

    hf = adapted(tiny_model)
    weights = {
        name: tensor.detach()
        for weight, adapter in lora.adapters(hf).items()
        for name, tensor in zip(lora.weight_names(weight), (adapter.a, adapter.b), strict=True)
    }
    lora.save(tmp_path / "adapter", weights, LORA, str(tiny_model))
    base = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    assert torch.equal(logits(PeftModel.from_pretrained(base, tmp_path / "adapter")), logits(hf))


@pytest.mark.parametrize(
    ("setting", "told"),
    [
        ("stages.rl.lora={rank: 8, dropout: 0.1}", "stages.rl.lora.dropout"),
        ("stages.rl.lora.rank=-1", "stages.rl.lora.rank"),
        ("stages.rl.lora={rank: 8, alpha: 0}", "stages.rl.lora.alpha"),
        ("stages.rl.lora={rank: 600, sync: adapter}", "merged into them any rank"),
        ("stages.rl.lora={rank: 8, bits: 4}", "stages.rl.lora.bits"),
        ("stages.rl.lora={alpha: 16, sync: adapter}", "alpha, sync would be read by nobody"),
        ("stages.rl.lora.targets=[q_proj]", "targets would be read by nobody"),
    ],
)
def test_settings_that_mean_nothing_are_refused(setting: str, told: str) -> None:
    with pytest.raises(ConfigError) as refused:
        compose(["recipe=grpo", "scale=tiny", setting])
    assert told in str(refused.value)


def test_adapters_that_no_engine_is_sent_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"stages.preference.lora.sync = adapter: is what engines are sent"):
        compose(["recipe=hypo", "scale=tiny", "stages.preference.lora={rank: 8, sync: adapter}"])


def test_adapters_to_engines_of_several_ranks_are_refused() -> None:
    asked = ["recipe=grpo", "scale=gpu", "data.task=basic_arithmetic", "stages.rl.lora={rank: 8, sync: adapter}"]
    with pytest.raises(ConfigError, match=r"lora.sync=merged, or rollout.tensor_parallel=1"):
        compose([*asked, "rollout.tensor_parallel=2"], to_run=False)


# ------------------------------------------------------------------------------------------------------------ ranks


def loaded(group: Any, folder: Path, config: LoraConfig = LORA, **changes: Any) -> Any:
    settings = learner_config(ranks=len(group.pids), **changes)
    dtype = "bfloat16" if changes.get("zero_stage") == 3 else "float32"
    spec = LearnerSpec(model_path=str(folder), learner=settings, total_steps=10, lora=config, dtype=dtype)
    run(group.load(spec))
    return group


@pytest.mark.deepspeed
@pytest.mark.ray
@pytest.mark.parametrize(("ranks", "stage"), [(1, 0), (2, 1), (2, 2), (1, 3), (2, 3)])
def test_steps_are_those_of_plain_pytorch(
    start_group: Any, tiny_model: Path, tmp_path: Path, ranks: int, stage: int
) -> None:
    """Two steps on ranks and stages against an AdamW in one process, saved, continued, published, exported."""
    group = loaded(start_group(ranks), tiny_model, zero_stage=stage)
    first = read_weights(run(group.publish(0)))
    base = {name: tensor.float().numpy() for name, tensor in load_file(tiny_model / "model.safetensors").items()}
    if stage < 3:
        assert all(np.array_equal(first[name], base[name]) for name in base)
    batches = [make_batch(seed=1), make_batch(seed=2)]
    metrics = [run(group.update(batch, CROSS_ENTROPY)).metrics for batch in batches]
    losses = [step["loss"] for step in metrics]
    trained = sum(a + b for a, b in zip(*(sizes(base, at) for at in (1, 0)), strict=True)) * LORA.rank
    moments = 2 * 4 * trained / (1 if stage == 0 else ranks) / 2**20
    assert metrics[-1]["learner/optimizer_mb"] == pytest.approx(moments, rel=0.05)
    run(group.save(str(tmp_path / "saved")))
    after = read_weights(run(group.publish(2)))
    assert max(np.abs(after[name] - base[name]).max() for name in base) > 1e-4
    if stage < 3:
        wanted_losses, wanted = plain_steps(tiny_model, batches)
        assert np.allclose(losses, wanted_losses, atol=1e-5)
        assert max(np.abs(after[name] - wanted[name]).max() for name in wanted) < 2e-5
    run(group.export(str(tmp_path / "model")))
    exported = load_file(tmp_path / "model" / "model.safetensors")
    assert all(np.array_equal(exported[name].float().numpy(), after[name]) for name in after)
    adapter = load_file(tmp_path / "model" / "adapter" / "adapter_model.safetensors")
    assert len(adapter) == 2 * 14
    loss = run(group.update(make_batch(seed=3), CROSS_ENTROPY)).metrics["loss"]
    third = read_weights(run(group.publish(3)))
    loaded(group, tiny_model, zero_stage=stage)
    run(group.restore(str(tmp_path / "saved")))
    assert run(group.update(make_batch(seed=3), CROSS_ENTROPY)).metrics["loss"] == loss
    assert all(np.array_equal(tensor, third[name]) for name, tensor in read_weights(run(group.publish(3))).items())


@pytest.mark.deepspeed
@pytest.mark.ray
def test_adapters_alone_are_published_beside_weights_that_stay(start_group: Any, tiny_model: Path) -> None:
    group = loaded(start_group(1), tiny_model, LoraConfig(rank=4, alpha=8.0, sync=AdapterSync.adapter), zero_stage=1)
    run(group.update(make_batch(seed=1), CROSS_ENTROPY))
    update = run(group.publish(1))
    assert update.on is not None and update.adapter["r"] == 4 and update.adapter["lora_alpha"] == 8.0
    base = load_file(tiny_model / "model.safetensors")
    weights = read_weights(update.on)
    assert all(np.array_equal(weights[name], base[name].numpy()) for name in base), "without what was learned since"
    rows = update.on.probe_ids
    assert np.abs(update.probe_logprobs - update.on.probe_logprobs).max() > 1e-4
    plain = AutoModelForCausalLM.from_pretrained(tiny_model, dtype=torch.float32)
    with torch.no_grad():
        scores = torch.log_softmax(plain(torch.from_numpy(rows.astype(np.int64))).logits[:, :-1], -1)
    wanted = scores.gather(-1, torch.from_numpy(rows[:, 1:].astype(np.int64))[..., None])[..., 0].numpy()
    assert np.abs(wanted - update.on.probe_logprobs).max() < 2e-5
    again = run(group.publish(2))
    assert again.on.digests == update.on.digests and again.on.buffer == update.on.buffer, "sent once"
    moved = {name for name in update.digests if not name.endswith("lora_A.weight")}
    assert len(moved) == 14 and again.digests == update.digests


@pytest.mark.deepspeed
@pytest.mark.ray
def test_a_checkpoint_of_other_adapters_is_refused(start_group: Any, tiny_model: Path, tmp_path: Path) -> None:
    """The last of the module: the group ends with it."""
    group = loaded(start_group(1), tiny_model, zero_stage=1)
    run(group.save(str(tmp_path / "saved")))
    other = loaded(group, tiny_model, LoraConfig(rank=4, alpha=16.0), zero_stage=1)
    with pytest.raises(LearnerError, match=r"does not fit this learner: lora .* 8\.0"):
        run(other.restore(str(tmp_path / "saved")))


def sizes(weights: dict[str, np.ndarray], axis: int) -> list[int]:
    """Inputs (1) or outputs (0) of the layers with adapters."""
    return [tensor.shape[axis] for name, tensor in weights.items() if name.endswith("_proj.weight")]


def plain_steps(folder: Path, batches: list[Any]) -> tuple[list[float], dict[str, np.ndarray]]:
    """Cross-entropy steps of the adapters in one process: losses, and the merged weights after them."""
    from learner_cases import row_logprobs

    torch.manual_seed(0)
    hf = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, attn_implementation="eager")
    lora.inject(hf, text_backbone(hf), LORA)
    beta1, beta2 = OPTIM.betas
    parameters = [parameter for parameter in hf.parameters() if parameter.requires_grad]
    optimizer = torch.optim.AdamW(
        parameters, lr=OPTIM.lr, betas=(beta1, beta2), eps=OPTIM.eps, weight_decay=OPTIM.weight_decay
    )
    losses = []
    for batch in batches:
        tokens = int(batch["loss_mask"].sum())
        loss = -torch.stack([row_logprobs(hf, batch, row).sum() for row in range(len(batch))]).sum() / tokens
        loss.backward()
        torch.nn.utils.clip_grad_norm_(parameters, OPTIM.max_grad_norm)
        losses.append(loss.item())
        optimizer.step()
        optimizer.zero_grad()
    return losses, {name: tensor.numpy() for name, tensor in checkpoint(hf).items()}
