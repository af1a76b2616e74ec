"""A checkpoint knows its data: every stage that learns goes on with the same rows only."""

from __future__ import annotations

import ast
from pathlib import Path

import numpy as np
import pytest

from raylign.data.identity import identity_of_samples
from raylign.data.pairs import Pair, pair_samples
from raylign.errors import CheckpointError
from raylign.records import Prompt

STAGES = Path(__file__).resolve().parents[2] / "recipes" / "stages"


def pair(answer: int) -> Pair:
    prompt = Prompt(id="p", messages=(), token_ids=np.array([1, 2], np.int32))
    return Pair(prompt=prompt, chosen=np.array([answer], np.int32), rejected=np.array([9], np.int32))


def test_other_rows_another_order_and_another_loss_are_other_data() -> None:
    rows = pair_samples([pair(3), pair(4)])
    known = identity_of_samples(rows)
    known.check(known.state())
    masked = [*rows]
    masked[0].loss_mask[0] = True
    for other in (pair_samples([pair(3), pair(5)]), pair_samples([pair(4), pair(3)]), pair_samples([pair(3)]), masked):
        with pytest.raises(CheckpointError, match="other data"):
            identity_of_samples(other).check(known.state())
    with pytest.raises(CheckpointError, match="does not say"):
        known.check(None)


@pytest.mark.parametrize("stage", ["sft", "preference"])
def test_stages_check_their_data_before_they_restore(stage: str) -> None:
    source = (STAGES / f"{stage}.py").read_text()
    run = next(
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.AsyncFunctionDef) and node.name == "run"
    )
    text = ast.unparse(run)
    assert 0 < text.index("identity.check(") < text.index("learner.restore(")
    assert "identity.state()" in text
