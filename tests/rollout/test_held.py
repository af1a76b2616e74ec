"""What an engine tells of its weights, on modules laid out as vLLM's: no part of a fused tensor hides another."""

from __future__ import annotations

import copy
from collections.abc import Callable
from typing import Any

import pytest
import torch
import xxhash
from torch import Tensor, nn

from raylign.actors.rollout.held import ROWS, held_digests

pytestmark = pytest.mark.vllm  # whose digests are used; no engine is started
SIZES = {"q_proj": 8, "k_proj": 4, "v_proj": 4}


class Linear(nn.Module):
    """A linear layer; packed: the kernel keeps the weights, transposed, and nothing lists them."""

    def __init__(self, inputs: int, sizes: list[int], packed: bool = False) -> None:
        super().__init__()
        self.input_size, self.output_partition_sizes = inputs, sizes
        whole = torch.randn(sum(sizes), inputs)
        self.weight = nn.Parameter(torch.empty(0) if packed else whole, requires_grad=False)
        self.copy, self.cpu_linear = [whole.T.clone()], self.kernel if packed else None

    def kernel(self, rows: Tensor, weight: Tensor, bias: None) -> Tensor:
        return rows @ self.copy[0]


class Experts(nn.Module):
    """The weights of all experts in one tensor."""

    local_num_experts, expert_map = 3, None

    def __init__(self) -> None:
        super().__init__()
        self.w2_weight = nn.Parameter(torch.randn(3, 4, 6))


class Model(nn.Module):
    """One fused projection of each kind, experts, and a head that is the embedding."""

    packed_modules_mapping = {"qkv_proj": list(SIZES), "packed_proj": list(SIZES)}  # noqa: RUF012 (vLLM's form)

    def __init__(self) -> None:
        super().__init__()
        self.qkv_proj = Linear(6, list(SIZES.values()))
        self.packed_proj = Linear(ROWS + 3, list(SIZES.values()), packed=True)
        self.experts, self.embed, self.head = Experts(), nn.Embedding(5, 6), nn.Linear(6, 5, bias=False)
        self.head.weight = self.embed.weight


def moved(model: Model, change: Callable[[Model], Any]) -> set[str]:
    """The tensors that are told to have changed."""
    before, other = held_digests(model), copy.deepcopy(model)
    with torch.no_grad():
        change(other)
    after = held_digests(other)
    assert before.keys() == after.keys() and before["digests"].keys() == after["digests"].keys()
    return {name for name, digest in after["digests"].items() if before["digests"][name] != digest}


@pytest.fixture(scope="module")
def model() -> Model:
    torch.manual_seed(0)
    return Model()


def test_a_tied_weight_is_told_once_and_fused_ones_by_their_parts(model: Model) -> None:
    held = held_digests(model)
    told = {"embed.weight", *(f"{name}.weight" for name in SIZES), *(f"{name}.packed" for name in SIZES)}
    assert set(held["digests"]) == told | {f"experts.w2_weight{part}" for part in ("", "[0]", "[1]", "[2]")}
    assert held["fused"]["qkv_proj"] == list(SIZES) and set(held["dtypes"].values()) == {"float32"}


@pytest.mark.parametrize(("row", "name"), [(0, "q_proj"), (7, "q_proj"), (8, "k_proj"), (15, "v_proj")])
def test_one_part_of_a_fused_weight_shows_alone(model: Model, row: int, name: str) -> None:
    assert moved(model, lambda other: other.qkv_proj.weight[row, 0].add_(1)) == {f"{name}.weight"}


@pytest.mark.parametrize("column", [0, ROWS - 1, ROWS + 2])
def test_a_copy_that_nothing_lists_is_read_through_its_kernel(model: Model, column: int) -> None:
    assert moved(model, lambda other: other.packed_proj.copy[0][column, 9].add_(1e-3)) == {"k_proj.packed"}


def test_a_copy_is_read_exactly_however_many_rows_it_takes(model: Model) -> None:
    pieces = model.packed_proj.copy[0].split(list(SIZES.values()), 1)
    told = held_digests(model)["digests"]
    for name, piece in zip(SIZES, pieces, strict=True):
        assert told[f"{name}.packed"] == xxhash.xxh3_128_hexdigest(piece.contiguous().numpy())


def test_one_expert_shows_beside_the_whole(model: Model) -> None:
    changed = moved(model, lambda other: other.experts.w2_weight[1, 0, 0].add_(1))
    assert changed == {"experts.w2_weight", "experts.w2_weight[1]"}


def test_the_head_shows_as_the_embedding(model: Model) -> None:
    assert moved(model, lambda other: other.head.weight[3, 3].add_(1)) == {"embed.weight"}
