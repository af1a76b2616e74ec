"""Weights leave the learner under the names, shapes and values of a saved checkpoint, whatever they are in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from benchmarks.sides.families import FAMILIES, build
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoModelForImageTextToText

from raylign.actors.learner.published import Group, published_groups

# experts apart, experts fused, renamed layers, three tensors from one, a buffer that is no parameter, an image model
NAMES = (
    "mixtral",
    "granitemoe",
    "gpt_neox",
    "olmo_hybrid",
    "nemotron_h",
    "deepseek_v3",
    "gemma3_conditional",
    "zamba2",
)


def checkpoint(groups: list[Group]) -> dict[str, torch.Tensor]:
    tensors: dict[str, torch.Tensor] = {}
    for group in groups:
        for (name, dtype, shape), tensor in zip(group.shapes, group.tensors(), strict=True):
            assert name not in tensors and shape == tuple(tensor.shape) and dtype == str(tensor.dtype)[6:]
            tensors[name] = tensor
    return tensors


@pytest.fixture(params=[family for family in FAMILIES if family.name in NAMES], ids=lambda family: family.name)
def saved(request: Any, tmp_path: Path) -> tuple[Any, dict[str, torch.Tensor]]:
    """A loaded model and the tensors of the file that `save_pretrained` wrote."""
    folder = build(request.param, tmp_path)
    loader: Any = AutoModelForImageTextToText if request.param.conditional else AutoModelForCausalLM
    return loader.from_pretrained(folder, dtype=torch.float32), load_file(folder / "model.safetensors")


def test_published_weights_are_those_of_a_saved_checkpoint(saved: tuple[Any, dict[str, torch.Tensor]]) -> None:
    model, wanted = saved
    groups = published_groups(model)
    for _ in range(2):  # laid out once, converted as often as there are updates
        tensors = checkpoint(groups)
        assert tensors.keys() == wanted.keys()
        assert all(torch.equal(tensors[name], wanted[name]) for name in wanted)


def test_shapes_are_known_without_the_data() -> None:
    """As with ZeRO-3, where a rank holds a part of each weight and `ds_shape` says what the whole is."""
    from transformers import MixtralConfig, MixtralForCausalLM

    config = MixtralConfig(
        vocab_size=32, hidden_size=16, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
        num_key_value_heads=1, num_local_experts=3,
    )  # fmt: skip
    model: Any = MixtralForCausalLM(config)
    whole = [group.shapes for group in published_groups(model)]
    for parameter in model.parameters():
        parameter.ds_shape, parameter.data = parameter.shape, torch.empty(0)
    groups = published_groups(model)
    assert [group.shapes for group in groups] == whole
    experts = next(group for group in groups if len(group.shapes) == 6)
    assert [name for name, _ in experts.sources] == ["model.layers.0.mlp.experts.gate_up_proj"]
    assert experts.shapes[0] == ("model.layers.0.block_sparse_moe.experts.0.w1.weight", "float32", (8, 16))
