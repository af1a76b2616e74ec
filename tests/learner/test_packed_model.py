from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from learner_cases import learner_config, make_batch, published, reference_logprobs
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, LlamaConfig, LlamaForCausalLM

from raylign.actors.learner.loading import load_model
from raylign.actors.learner.model import VALUE_HEAD, PackedModel, export_model, packed_inputs
from raylign.actors.learner.passes import token_values
from raylign.actors.learner.spec import LearnerSpec
from raylign.packing import pack

CPU = torch.device("cpu")


def spec(folder: Path | str, **changes: object) -> LearnerSpec:
    return LearnerSpec(model_path=str(folder), learner=learner_config(), total_steps=1, **changes)  # type: ignore[arg-type]


def packed_logprobs(
    model: PackedModel, batch: object, budget: int, share: bool, temperature: float = 1.0
) -> np.ndarray:
    plan = pack(batch, 1, budget, share)[0]  # type: ignore[arg-type]
    part = token_values(lambda inputs: model(inputs, temperature), plan, batch, CPU)  # type: ignore[arg-type]
    full = np.zeros(batch.tokens, np.float32)  # type: ignore[attr-defined]
    full[part.index] = part.values
    return full


@pytest.mark.parametrize("temperature", [1.0, 0.7])
@pytest.mark.parametrize("share", [True, False])
@pytest.mark.parametrize("budget", [1, 100, 5000])
def test_logprobs_equal_the_row_by_row_forward(tiny_model: Path, budget: int, share: bool, temperature: float) -> None:
    batch = make_batch()
    got = packed_logprobs(load_model(spec(tiny_model)), batch, budget, share, temperature)
    np.testing.assert_allclose(got, reference_logprobs(tiny_model, batch, temperature), atol=1e-5)


def test_an_untied_head_and_another_family(tmp_path: Path) -> None:
    config = LlamaConfig(
        vocab_size=262, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=4,
        num_key_value_heads=2, max_position_embeddings=128, tie_word_embeddings=False,
    )  # fmt: skip
    torch.manual_seed(0)
    LlamaForCausalLM(config).save_pretrained(tmp_path)
    batch = make_batch()
    model = load_model(spec(tmp_path))
    np.testing.assert_allclose(packed_logprobs(model, batch, 100, True), reference_logprobs(tmp_path, batch), atol=1e-5)
    names = published(model)
    assert "lm_head.weight" in names and "model.embed_tokens.weight" in names


def test_a_tied_head_is_one_weight(tiny_model: Path) -> None:
    names = published(load_model(spec(tiny_model)))
    assert "model.embed_tokens.weight" in names and "lm_head.weight" not in names


def test_critic_starts_at_zero_and_survives_export(tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(spec(tiny_model, kind="scalar_head"))
    batch = make_batch()
    inputs = packed_inputs(pack(batch, 1, 5000, True)[0][0], batch, CPU)
    (values,) = model(inputs)
    assert values.dtype == torch.float32 and torch.count_nonzero(values) == 0
    with torch.no_grad():
        model.value_head.weight.normal_()
    weights = published(model) | {f"value_head.{name}": t for name, t in model.value_head.state_dict().items()}
    export_model(model, weights, str(tiny_model), str(tmp_path))
    again = load_model(spec(tmp_path, kind="scalar_head"))
    torch.testing.assert_close(again(inputs)[0], model(inputs)[0], atol=0, rtol=0)


def test_a_critic_starts_from_an_exported_policy(tiny_model: Path, tmp_path: Path) -> None:
    policy = load_model(spec(tiny_model))
    export_model(policy, published(policy), str(tiny_model), str(tmp_path))
    assert not (tmp_path / VALUE_HEAD).exists()
    critic = load_model(spec(tmp_path, kind="scalar_head"))
    assert torch.count_nonzero(critic.value_head.weight) == 0


def test_gradient_checkpointing_changes_nothing(tiny_model: Path) -> None:
    batch = make_batch()
    inputs = packed_inputs(pack(batch, 1, 5000, True)[0][0], batch, CPU)
    grads = []
    for checkpointing in (False, True):
        config = learner_config(gradient_checkpointing=checkpointing)
        model = load_model(LearnerSpec(model_path=str(tiny_model), learner=config, total_steps=1)).train()
        model(inputs)[0].sum().backward()
        grads.append(torch.cat([parameter.grad.flatten() for parameter in model.parameters()]))
    torch.testing.assert_close(grads[0], grads[1], atol=1e-5, rtol=1e-5)


def test_a_bad_spec_is_refused(tiny_model: Path) -> None:
    with pytest.raises(ValueError, match="dtype is float16"):
        spec(tiny_model, dtype="float16")
    with pytest.raises(ValueError, match="flow"):
        spec(tiny_model, kind="flow")


def test_weights_that_lack_a_tensor_are_refused(tiny_model: Path, tmp_path: Path) -> None:
    """transformers would fill it with random numbers and say nothing to who calls it."""
    folder = Path(shutil.copytree(tiny_model, tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    name = next(name for name in sorted(tensors) if name.endswith("mlp.up_proj.weight"))
    tensors.pop(name)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ValueError, match=f"lack 1 tensors of the model, e.g. {name}"):
        load_model(spec(folder))


def test_export_writes_a_folder_that_transformers_loads(tiny_model: Path, tmp_path: Path) -> None:
    model = load_model(spec(tiny_model))
    export_model(model, published(model), str(tiny_model), str(tmp_path))
    mine = AutoModelForCausalLM.from_pretrained(tmp_path).state_dict()
    theirs = AutoModelForCausalLM.from_pretrained(tiny_model).state_dict()
    assert mine.keys() == theirs.keys() and all(torch.equal(mine[name], theirs[name]) for name in mine)
    assert (tmp_path / "chat_template.jinja").exists() and (tmp_path / "generation_config.json").exists()
