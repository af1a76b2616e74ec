"""A method that reads no scores learns from every trajectory, and the records know which row is whose."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from test_loop import make

from raylign.columns import Columns
from raylign.objectives.advantage.group import GRPO
from raylign.records import Float32s, Missing, Prompt, Reward, Trajectory, Value


class Unscored(GRPO):
    """Every sampled token counts as much, whatever was scored."""

    reads_scores = False

    def assign(self, batch: Columns, scores: Float32s) -> Any:
        return super().assign(batch, np.arange(len(scores), dtype=np.float32))


async def test_one_missing_verdict_costs_no_row_its_record() -> None:
    def but_one(prompt: Prompt, trajectory: Trajectory) -> Reward:
        lost = trajectory.sample_index == 1
        return Missing(reason="judge unreachable") if lost else Value(score=float(trajectory.sample_index))

    loop = make(but_one)
    loop.parts = replace(loop.parts, credit=Unscored(Unscored.Config()))
    result = await loop.step(0)
    assert result.batch is not None and len(result.rows) == len(result.batch) == 12
    assert list(result.rows) == [(group, draw) for group in range(4) for draw in range(3)]
