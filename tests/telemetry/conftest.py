"""A group as a run would record it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from raylign.records import Group, Missing, Value
from raylign.testing import call, group, prompt, trajectory


def build_group(number: int = 0, size: int = 3) -> Group:
    asked = prompt(number, "1+1?", token_ids=np.array([7, 8], np.int32), answer="2")
    rewards = (Value(score=1.0), Missing(reason="timeout"), Value(score=0.0))
    samples = [
        trajectory(call(f"answer {i}", 3, versions=2), rewards={"correct": rewards[i % 3]}, seed=i) for i in range(size)
    ]
    return group(*samples, prompt=asked, scores=(1.0, None, 0.0)[:size])


@pytest.fixture
def a_group() -> Callable[..., Group]:
    """``a_group(number, size)``: one prompt, `size` trajectories rewarded 1, missing, 0."""
    return build_group


@pytest.fixture(scope="session")
def tokenizer_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with tokenizer.json: one token a byte, and three special ones."""
    from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    special = ("<|user|>", "<|assistant|>", "<|end|>")
    core = Tokenizer(models.BPE(vocab={token: i for i, token in enumerate((*special, *letters))}, merges=[]))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([AddedToken(token, special=True, normalized=False) for token in special])
    folder = tmp_path_factory.mktemp("tokenizer")
    core.save(str(folder / "tokenizer.json"))
    return folder
