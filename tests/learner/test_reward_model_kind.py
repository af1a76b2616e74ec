"""A reward model is transformers' own: its folder, its head, its numbers at the last token; packed, in any mode."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from benchmarks.sides.families import FAMILIES, build
from learner_cases import learner_config, published
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, AutoModelForSequenceClassification

from raylign.actors.learner import lora
from raylign.actors.learner.exactness import settle
from raylign.actors.learner.forward import forward_kind
from raylign.actors.learner.layouts import RowLayout, text_backbone
from raylign.actors.learner.loading import load_model
from raylign.actors.learner.model import PackedModel, export_model, packed_inputs
from raylign.actors.learner.spec import LearnerSpec
from raylign.batch import Batch
from raylign.config.schema import LoraConfig
from raylign.data.scored import scored_row
from raylign.models.folder_check import folder_fault
from raylign.models.scoring import Manner, Reads, manner_of, tell
from raylign.packing import pack, with_equal_segments

CPU = torch.device("cpu")
BY_TYPE = {family.model_type: family for family in FAMILIES}


def load(folder: Path | str, **changes: Any) -> PackedModel:
    spec = {"learner": learner_config(), "total_steps": 1, "kind": "reward_model", **changes}
    return load_model(LearnerSpec(model_path=str(folder), **spec))


def conversations(groups: int = 4, size: int = 3, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    rows = []
    for group in range(groups):
        prompt = rng.integers(6, 60, rng.integers(2, 9)).astype(np.int32)
        rows += [
            scored_row(group, prompt, rng.integers(6, 60, rng.integers(1, 20)).astype(np.int32)) for _ in range(size)
        ]
    return Batch.from_rows(rows)


def scores(model: PackedModel, batch: Batch, budget: int = 60) -> np.ndarray:
    """[B], by the learner's packing."""
    share = model.layout is RowLayout.PACKED
    result = np.zeros(len(batch))
    for micro in with_equal_segments(pack(batch, 1, budget, share)):
        for part in micro:
            if len(part.token_index):
                result[part.rows] = model(packed_inputs(part, batch, CPU))[0].detach().numpy()
    return result


def plain_scores(folder: Path, batch: Batch) -> np.ndarray:
    """[B] by transformers' own forward on each conversation alone, without the token that stands behind it."""
    model = AutoModelForSequenceClassification.from_pretrained(folder, attn_implementation="eager").eval()
    model.config.get_text_config().pad_token_id = None  # a conversation alone has no padding
    with torch.no_grad():
        rows = [torch.from_numpy(batch.row(row, "token_ids")[None, :-1].astype(np.int64)) for row in range(len(batch))]
        return np.array([float(model(ids, use_cache=False).logits[0, 0]) for ids in rows])


def export(model: PackedModel, source: Path | str, folder: Path) -> Path:
    export_model(model, published(model), str(source), str(folder))
    return folder


def test_a_language_model_gets_a_new_head_that_is_drawn_from_the_seed(tiny_model: Path) -> None:
    heads = [load(tiny_model, seed=seed).hf.score.weight for seed in (1, 1, 2)]
    assert heads[0].shape == (1, 64) and torch.equal(heads[0], heads[1]) and not torch.equal(heads[0], heads[2])
    assert 0.5 < float(heads[0].std()) * np.sqrt(65) < 1.5
    policy = AutoModelForCausalLM.from_pretrained(tiny_model)
    backbone = load(tiny_model).hf.model.state_dict()
    assert all(torch.equal(tensor, backbone[name]) for name, tensor in policy.model.state_dict().items())


def test_everything_below_the_head_is_trained_and_the_head(tiny_model: Path) -> None:
    model, batch = load(tiny_model), conversations(1, 2)
    micro = pack(batch, 1, 10**6, True)[0][0]
    model(packed_inputs(micro, batch, CPU))[0].sum().backward()
    assert all(p.grad is not None and bool(p.grad.abs().sum() > 0) for p in model.parameters())


@pytest.mark.parametrize("name", ["qwen3", "llama", "gpt2", "opt", "gemma3_text", "bloom"])
def test_scores_are_those_of_transformers_behind_the_last_token(name: str, tiny_model: Path, tmp_path: Path) -> None:
    """Of packed rows with shared prompts, or one row at a time; dropout (OPT) off in training mode, too."""
    source = tiny_model if name == "qwen3" else build(BY_TYPE[name], tmp_path / "source")
    model, batch = load(source), conversations()
    settle(model)
    assert model.layout is (RowLayout.ROWS if name == "bloom" else RowLayout.PACKED)
    folder = export(model, source, tmp_path / "exported")
    wanted = plain_scores(folder, batch)
    assert wanted.std() > 1e-3
    np.testing.assert_allclose(scores(model.train(), batch), wanted, atol=2e-5)
    again = load(folder)
    settle(again)
    assert torch.equal(again.hf.score.weight, model.hf.score.weight)
    np.testing.assert_allclose(scores(again, batch, 10**6), wanted, atol=2e-5)


def test_an_export_is_what_hugging_face_expects(tiny_model: Path, tmp_path: Path) -> None:
    folder = export(load(tiny_model), tiny_model, tmp_path)
    fields = json.loads((folder / "config.json").read_text())
    assert fields["architectures"] == ["Qwen3ForSequenceClassification"] and len(fields["id2label"]) == 1
    stored = load_file(folder / "model.safetensors")
    assert stored["score.weight"].shape == (1, 64) and "lm_head.weight" not in stored
    assert (folder / "tokenizer.json").exists() and folder_fault(folder) is None


def test_a_folder_says_how_it_is_read_and_pads_with_no_end_of_turn(tiny_model: Path, tmp_path: Path) -> None:
    folder = export(load(tiny_model), tiny_model, tmp_path)
    assert manner_of(folder) is None
    manner = Manner(reads=Reads.end_of_turn, template_args={"enable_thinking": False})
    pad = json.loads((folder / "config.json").read_text())["pad_token_id"]
    tell(folder, manner, ends=[pad + 1])
    assert manner_of(folder) == manner
    assert json.loads((folder / "config.json").read_text())["pad_token_id"] == pad
    tell(folder, manner, ends=[pad])
    model = AutoModelForSequenceClassification.from_pretrained(folder)
    assert model.config.pad_token_id is None
    ids = torch.tensor([[7, 8, pad]])  # a turn that ends in what pads elsewhere: its own state is read
    with torch.no_grad():
        wanted = model.score(model.model(ids).last_hidden_state[0, -1])
        torch.testing.assert_close(model(ids).logits[0], wanted)
    (folder / "config.json").write_text(json.dumps({"raylign": {"reads": "somewhere", "template_args": {}}}))
    with pytest.raises(ValueError, match="which no version of this software wrote"):
        manner_of(folder)


def changed(folder: Path, change: Callable[[dict[str, Any], dict[str, Any]], None]) -> Path:
    """The folder with its config and tensors changed."""
    fields, tensors = json.loads((folder / "config.json").read_text()), load_file(folder / "model.safetensors")
    change(fields, tensors)
    (folder / "config.json").write_text(json.dumps(fields))
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def without_head(fields: dict[str, Any], tensors: dict[str, Any]) -> None:
    del tensors["score.weight"]


def two_labels(fields: dict[str, Any], tensors: dict[str, Any]) -> None:
    tensors["score.weight"] = torch.zeros(2, 64)
    fields["id2label"] = {"0": "a", "1": "b"}


@pytest.mark.parametrize(
    ("change", "message"),
    [(without_head, "lack 1 tensors of the model, e.g. score.weight"), (two_labels, "gives 2 numbers")],
)
def test_a_reward_model_without_one_number_is_refused(
    tiny_model: Path, tmp_path: Path, change: Any, message: str
) -> None:
    folder = changed(export(load(tiny_model), tiny_model, tmp_path / "model"), change)
    with pytest.raises(ValueError, match=message) as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_a_head_that_is_absent_or_wide_is_seen_in_the_files(tiny_model: Path, tmp_path: Path) -> None:
    folder = export(load(tiny_model), tiny_model, tmp_path / "model")
    wide = changed(Path(shutil.copytree(folder, tmp_path / "wide")), two_labels)
    fault = folder_fault(wide)
    assert fault is not None and "score.weight of shape [2, 64]" in fault.why
    fault = folder_fault(changed(folder, without_head))
    assert fault is not None and "holds no score.weight" in fault.why


def test_a_family_without_such_a_class_is_refused_in_one_line(tmp_path: Path) -> None:
    folder = build(BY_TYPE["mamba"], tmp_path)
    with pytest.raises(ValueError, match="transformers has no mamba with a scalar head") as refused:
        load(folder)
    assert "\n" not in str(refused.value)


def test_bf16_scores_are_rounded_by_the_backbone_alone(tiny_model: Path, tmp_path: Path) -> None:
    model, batch = load(tiny_model, dtype="bfloat16"), conversations()
    inputs = packed_inputs(pack(batch, 1, 10**6, True)[0][0], batch, CPU)
    (hidden,), (mine,) = model(inputs, states=True), model(inputs)
    assert mine.dtype == torch.float32
    torch.testing.assert_close(mine, hidden.float() @ model.hf.score.weight.float()[0], atol=0, rtol=1e-6)


def test_what_adapters_add_is_in_the_scores_of_the_export(tiny_model: Path, tmp_path: Path) -> None:
    spec = LearnerSpec(model_path=str(tiny_model), learner=learner_config(), total_steps=1, kind="reward_model")
    kind = forward_kind(spec)
    model, batch = kind.load(), conversations()
    lora.inject(model.hf, text_backbone(model.hf), LoraConfig(rank=4, alpha=8.0), kind.heads())
    with torch.no_grad():
        for adapter in lora.adapters(model.hf).values():
            adapter.b.normal_(std=0.05)
    folder = export(model, tiny_model, tmp_path)
    np.testing.assert_allclose(scores(model, batch), plain_scores(folder, batch), atol=2e-5)
