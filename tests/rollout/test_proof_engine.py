"""The proof of weight updates on vLLM in bf16 with logits of real size: the cheap form of `benchmarks.weight_proof`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from benchmarks.sides.proof_engine import Trial, trials
from benchmarks.sides.proof_learner import Learner, build_model

pytestmark = pytest.mark.vllm


def test_in_bf16_no_healthy_update_is_refused_and_every_stale_weight_is_found(
    tmp_path: Path, run: Callable[..., Any]
) -> None:
    folder = build_model("untied", tmp_path / "model")
    updates = Learner(folder, "bfloat16").updates(range(2))

    async def judge() -> list[Trial]:
        return [trial async for trial in trials(folder, "bfloat16", 0.05, updates)]

    kinds: set[str] = set()
    for trial in run(judge()):
        assert 15 <= trial.top <= 26
        assert not trial.healthy.by_bytes and not trial.healthy.by_meaning
        for name, verdict in trial.stale.items():
            assert verdict.by_bytes, f"{name} stayed behind at version {trial.version}, and nothing says so"
        kinds |= set(trial.stale)
    assert len(kinds) == 9
