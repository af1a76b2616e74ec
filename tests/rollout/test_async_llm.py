"""AsyncLLM behind the same interface. It spawns processes, so one test does everything; the file may run alone."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import psutil
import pytest

from raylign.actors.rollout.engine import EngineSpec, make_engine
from raylign.config.schema import EngineKind
from raylign.contracts import Sampling
from raylign.errors import EngineDeadError, RequestError

pytestmark = pytest.mark.vllm


def test_async_llm_generates_updates_and_reports_its_death(
    spec: EngineSpec, run: Callable[..., Any], reference: Any, publish: Any, random_prompts: Any
) -> None:
    engine, prompts = make_engine(EngineKind.async_llm, replace(spec, max_gap=1e-4)), random_prompts(4, seed=70)
    new = reference.perturbed(71)

    async def steps() -> None:
        await engine.start()
        completion = await engine.generate(prompts[0], Sampling(max_tokens=20), 1)
        expected = reference.logprobs([*prompts[0], *completion.token_ids])[len(prompts[0]) - 1 :]
        assert np.abs(completion.logprobs - expected).max() <= 1e-5
        with pytest.raises(RequestError, match="with a context of 256"):
            await engine.generate(prompts[0] * 100, Sampling(max_tokens=2), 1)

        calls = [asyncio.ensure_future(engine.generate(ids, Sampling(max_tokens=180), 1)) for ids in prompts]
        await asyncio.sleep(0.05)
        gap = await publish(engine, new.update(1))
        assert gap.max <= 1e-5
        for ids, completion in zip(prompts, await asyncio.gather(*calls), strict=True):
            assert set(completion.versions) <= {0, 1}
            row = [*ids, *completion.token_ids]
            by_version = [model.logprobs(row)[len(ids) - 1 :] for model in (reference, new)]
            assert np.abs(completion.logprobs - np.where(completion.versions == 0, *by_version)).max() <= 1e-5
        scores = await engine.score(prompts[1], 1)
        assert np.abs(scores - new.logprobs(prompts[1])).max() <= 1e-5

        core = next(c for c in psutil.Process().children(recursive=True) if "EngineCore" in " ".join(c.cmdline()))
        os.kill(core.pid, signal.SIGSTOP)  # so that both calls are under way for certain
        call = asyncio.ensure_future(engine.generate(prompts[0], Sampling(max_tokens=200), 1))
        update = asyncio.ensure_future(engine.reset_prefix_cache())
        await asyncio.sleep(0.05)
        os.kill(core.pid, signal.SIGKILL)
        for cut in (call, update):
            with pytest.raises(EngineDeadError):
                await asyncio.wait_for(cut, 30)
        with pytest.raises(EngineDeadError):
            await engine.generate(prompts[0], Sampling(max_tokens=2), 1)

    try:
        run(asyncio.wait_for(steps(), 200))
    finally:
        run(engine.close())
