"""Every kind of model is computed as its own plain forward computes it, packed or one row at a time, or refused."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks.sides.families import FAMILIES, build
from learner_cases import learner_config, make_batch, published
from safetensors import safe_open
from transformers import AutoModelForCausalLM

from raylign.actors.learner import exactness, layouts
from raylign.actors.learner.exactness import check_model, narrow_windows, settle
from raylign.actors.learner.head import output_layers
from raylign.actors.learner.layouts import RowLayout
from raylign.actors.learner.loading import load_model
from raylign.actors.learner.logprobs import LogitRule, LogprobHead
from raylign.actors.learner.model import PackedModel, export_model, packed_inputs
from raylign.actors.learner.spec import LearnerSpec
from raylign.config.schema import ModelConfig
from raylign.models.facts import model_facts
from raylign.packing import pack, with_equal_segments

CPU = torch.device("cpu")
FolderOf = Callable[[str], Path]
PACKED = (
    "llama", "cohere", "gemma2", "gpt_oss", "opt", "starcoder2", "seed_oss", "biogpt", "modernbert-decoder", "granite",
    "deepseek_v2", "deepseek_v3", "mistral", "gemma3", "mistral3",
)  # fmt: skip
ROWS = (
    "mamba", "mamba2", "falcon_h1", "bamba", "jamba", "lfm2", "qwen3_next", "qwen3_5", "rwkv", "recurrent_gemma",
    "bloom", "codegen", "gptj", "gpt_neo", "mpt", "stablelm", "doge", "phimoe", "llama4_text",
)  # fmt: skip
BY_TYPE = {family.model_type: family for family in FAMILIES}


def load(folder: Path, **changes: object) -> PackedModel:
    config = learner_config(gradient_checkpointing=True)
    return load_model(LearnerSpec(model_path=str(folder), learner=config, total_steps=1, **changes))  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def folder_of(tmp_path_factory: pytest.TempPathFactory) -> FolderOf:
    made: dict[str, Path] = {}

    def find(name: str) -> Path:
        if name not in made:
            made[name] = build(BY_TYPE[name], tmp_path_factory.mktemp(name.replace("/", "_")))
        return made[name]

    return find


@pytest.mark.parametrize("name", [*PACKED, *ROWS])
def test_the_layout_of_a_family_is_exact(folder_of: FolderOf, name: str) -> None:
    model = load(folder_of(name))
    weights = {key: value.clone() for key, value in model.state_dict().items()}
    random = torch.get_rng_state()
    result = check_model(model)
    assert result.layout is (RowLayout.PACKED if name in PACKED else RowLayout.ROWS), result.note
    assert result.gap < 1e-4 and model.layout is result.layout
    assert torch.equal(torch.get_rng_state(), random)
    assert all(torch.equal(value, weights[key]) for key, value in model.state_dict().items())


@pytest.mark.parametrize("name", ["mamba2", "falcon_h1", "qwen3_next", "bloom", "lfm2", "opt", "gemma2"])
def test_training_passes_have_the_plain_gradients(folder_of: FolderOf, name: str) -> None:
    """In training mode, with layers computed again, as an update does it."""
    batch, model = make_batch(groups=2, size=2, longest=12), load(folder_of(name))
    settle(model)
    share = model.layout is RowLayout.PACKED
    model.train()
    for micro in with_equal_segments(pack(batch, 1, 5000, share))[0]:
        model(packed_inputs(micro, batch, CPU), 0.7)[0].sum().backward()
    plain = AutoModelForCausalLM.from_pretrained(folder_of(name), attn_implementation="eager").eval()
    for row in range(len(batch)):
        ids = torch.from_numpy(batch.row(row, "token_ids").astype(np.int64))[None]
        logp = torch.log_softmax(plain(ids, use_cache=False).logits[0, :-1] / 0.7, -1).gather(-1, ids[0, 1:, None])[
            :, 0
        ]
        logp[torch.from_numpy(batch.row(row, "loss_mask")[1:])].sum().backward()
    wanted = {key: value.grad for key, value in plain.named_parameters() if value.grad is not None}
    mine = dict(model.hf.named_parameters())
    largest = max(float(grad.abs().max()) for grad in wanted.values())
    for key, grad in wanted.items():
        scale = max(float(grad.abs().max()), 1e-4 * largest)  # some are 0 but for rounding, as that of a key's bias
        assert float((mine[key].grad - grad).abs().max()) < 2e-3 * scale, key


@pytest.mark.parametrize("name", ["falcon_h1", "recurrent_gemma", "mamba2"])
def test_rounding_of_bf16_hides_no_leak(folder_of: FolderOf, name: str) -> None:
    assert check_model(load(folder_of(name), dtype="bfloat16")).layout is RowLayout.ROWS


@pytest.mark.parametrize("name", ["llama", "bamba", "gemma3"])
def test_a_scalar_head_is_checked_below_its_head(folder_of: FolderOf, name: str) -> None:
    result = check_model(load(folder_of(name), kind="scalar_head"))
    assert result.layout is (RowLayout.ROWS if name == "bamba" else RowLayout.PACKED) and result.gap < 1e-4


def test_a_model_that_no_layout_computes_is_refused_in_one_line(folder_of: FolderOf) -> None:
    model = load(folder_of("cohere"))
    head = model._head[0]
    head.rule = LogitRule()  # as if the family's factor were not known
    with pytest.raises(
        ValueError, match=r"CohereForCausalLM cannot be computed exactly: packed, rows .* nat from"
    ) as e:
        settle(model)
    assert "\n" not in str(e.value)


def test_an_error_of_a_forward_becomes_the_reason(folder_of: FolderOf, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*args: object, **kwargs: object) -> None:
        raise KeyError("inv_freq")

    monkeypatch.setattr("raylign.actors.learner.model.hidden_states", broken)
    with pytest.raises(ValueError, match=r"LlamaForCausalLM .* it fails \(KeyError: 'inv_freq'\)"):
        settle(load(folder_of("llama")))


def test_no_part_of_a_model_is_ever_in_training_mode(folder_of: FolderOf) -> None:
    model = load(folder_of("opt")).train()
    assert model.training and not any(part.training for part in model.hf.modules())


def test_windows_are_narrow_only_during_the_check(folder_of: FolderOf) -> None:
    model = load(folder_of("mistral")).hf
    model.config.sliding_window = 4096
    with narrow_windows(model):
        assert model.config.sliding_window == exactness.WINDOW
    assert model.config.sliding_window == 4096


def test_a_window_that_is_wider_than_the_rows_is_checked(folder_of: FolderOf) -> None:
    """PhiMoE's window lives in its mask, which packed attention does not read."""
    model = load(folder_of("phimoe"))
    for config in layouts._configs(model.hf):
        config.sliding_window = 2047
    assert check_model(model).layout is RowLayout.ROWS


def test_weights_outside_the_text_tower_are_frozen(folder_of: FolderOf) -> None:
    model = load(folder_of("mistral3"))
    trained = {key for key, value in model.hf.named_parameters() if value.requires_grad}
    frozen = {key for key, value in model.hf.named_parameters() if not value.requires_grad}
    assert frozen and all("vision" in key or "projector" in key for key in frozen)
    assert trained and not any("vision" in key for key in trained)


def test_an_export_keeps_what_is_stored_but_not_trained(folder_of: FolderOf, tmp_path: Path) -> None:
    model, source = load(folder_of("deepseek_v3")), folder_of("deepseek_v3")
    export_model(model, published(model), str(source), str(tmp_path))
    with safe_open(source / "model.safetensors", "pt") as old, safe_open(tmp_path / "model.safetensors", "pt") as new:
        assert set(old.keys()) == set(new.keys())


@pytest.mark.parametrize("name", ["mistral3", "qwen3_5"])
def test_a_text_tower_is_exported_with_all_that_was_around_it(folder_of: FolderOf, tmp_path: Path, name: str) -> None:
    model, source = load(folder_of(name)), folder_of(name)
    export_model(model, published(model), str(source), str(tmp_path))
    with safe_open(source / "model.safetensors", "pt") as old, safe_open(tmp_path / "model.safetensors", "pt") as new:
        assert set(old.keys()) == set(new.keys())
        assert all(torch.equal(old.get_tensor(key), new.get_tensor(key)) for key in old.keys())  # noqa: SIM118
    assert model_facts(ModelConfig(path=str(tmp_path))).layers == model.hf.config.text_config.num_hidden_layers


@pytest.mark.parametrize("name", ["bloom", "gpt2", "mpt", "qwen3_5", "falcon_h1", "gpt_neo"])
def test_layers_count_under_every_family_s_names(folder_of: FolderOf, name: str) -> None:
    facts, model = model_facts(ModelConfig(path=str(folder_of(name)))), load(folder_of(name)).hf
    text = model.config.get_text_config()
    assert (facts.layers, facts.hidden, facts.vocab) == (text.num_hidden_layers, text.hidden_size, text.vocab_size)
    assert facts.layers > 0 and facts.parameters > 0


def test_weights_that_are_stored_twice_count_once(folder_of: FolderOf, tmp_path: Path) -> None:
    shutil.copytree(folder_of("llama"), tmp_path / "m")
    once = model_facts(ModelConfig(path=str(tmp_path / "m"))).parameters
    shutil.copy(tmp_path / "m" / "model.safetensors", tmp_path / "m" / "consolidated.safetensors")
    assert model_facts(ModelConfig(path=str(tmp_path / "m"))).parameters == once
    (tmp_path / "m" / "model.safetensors").rename(tmp_path / "m" / "a.safetensors")
    with safe_open(tmp_path / "m" / "a.safetensors", "np") as stored:
        weights = {"weight_map": dict.fromkeys(stored.keys(), "a.safetensors"), "metadata": {"total_size": 2 * once}}
    (tmp_path / "m" / "model.safetensors.index.json").write_text(json.dumps(weights))
    assert model_facts(ModelConfig(path=str(tmp_path / "m"))).parameters == once


def test_an_index_alone_says_how_large_a_model_is(folder_of: FolderOf, tmp_path: Path) -> None:
    shutil.copy(folder_of("qwen3_moe") / "config.json", tmp_path)
    index = {"weight_map": {"a": "a.safetensors"}, "metadata": {"total_size": 4_000_000}}
    (tmp_path / "model.safetensors.index.json").write_text(json.dumps(index))
    assert model_facts(ModelConfig(path=str(tmp_path))).parameters == 1_000_000  # its config says float32


@pytest.mark.parametrize("rule", [LogitRule(0.3), LogitRule(1.0, 2.0), LogitRule(0.5, 2.0)])
def test_factors_and_caps_of_logits_have_their_gradients(rule: LogitRule) -> None:
    torch.manual_seed(0)
    linear, hidden, targets = torch.nn.Linear(6, 11), torch.randn(7, 6, requires_grad=True), torch.arange(7)
    logprob, entropy = LogprobHead(linear, 3, rule)(hidden, targets, 0.8, True)
    mine = torch.autograd.grad((logprob * 0.7 + entropy).sum(), [hidden, linear.weight, linear.bias])
    logits = linear(hidden) * rule.scale
    logits = (logits if rule.cap is None else rule.cap * torch.tanh(logits / rule.cap)) / 0.8
    logp = torch.log_softmax(logits, -1)
    wanted_logprob, wanted_entropy = logp.gather(-1, targets[:, None])[:, 0], -(logp.exp() * logp).sum(-1)
    theirs = torch.autograd.grad((wanted_logprob * 0.7 + wanted_entropy).sum(), [hidden, linear.weight, linear.bias])
    torch.testing.assert_close(logprob, wanted_logprob)
    for left, right in zip(mine, theirs, strict=True):
        torch.testing.assert_close(left, right)


def test_ranks_run_equally_often() -> None:
    batch = make_batch(groups=3, size=3)
    plan = with_equal_segments(pack(batch, 2, 100, False))
    for step in zip(*plan, strict=True):
        assert len({len(micro.segments) for micro in step}) == 1
    for micro in (micro for rank in plan for micro in rank):
        ends = np.cumsum(micro.segments[:, 1])
        assert ends[-1] == micro.tokens and np.array_equal(micro.segments[1:, 0], ends[:-1])


def test_a_head_that_is_not_linear_is_refused(folder_of: FolderOf) -> None:
    model = AutoModelForCausalLM.from_pretrained(folder_of("llama"))
    model.lm_head = torch.nn.Identity()
    with pytest.raises(ValueError, match="LlamaForCausalLM has no linear output layer"):
        output_layers(model, 8)
