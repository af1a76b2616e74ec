"""New weights: loaded whole, proven by the probe, and never mixed with caches of the old ones."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raylign.contracts import Sampling
from raylign.errors import EngineDeadError

pytestmark = pytest.mark.vllm


def test_20_updates_with_tied_embeddings_are_exact(engine, run, reference, publish, random_prompts):
    assert reference.model.config.tie_word_embeddings
    for version in range(1, 21):
        changed = reference.perturbed(version)
        gap = run(publish(engine, changed.update(version)))
        assert gap.max <= 1e-5
    prompt = random_prompts(1)[0]
    completion = run(engine.generate(prompt, Sampling(max_tokens=30), 1))
    expected = changed.logprobs([*prompt, *completion.token_ids])[len(prompt) - 1 :]
    assert np.abs(completion.logprobs - expected).max() <= 1e-5
    assert (completion.versions == 20).all()


def test_cached_prefixes_of_old_weights_are_not_used(engine, run, reference, publish, random_prompts):
    """A prompt longer than a cache block: its keys are cached, and must be forgotten with the weights."""
    prompt = random_prompts(1, seed=11, low=200, high=201)[0]
    run(publish(engine, reference.update(30)))
    run(engine.generate(prompt, Sampling(max_tokens=4), 1))
    changed = reference.perturbed(31)
    run(publish(engine, changed.update(31)))
    completion = run(engine.generate(prompt, Sampling(max_tokens=30), 1))
    expected = changed.logprobs([*prompt, *completion.token_ids])[len(prompt) - 1 :]
    assert np.abs(completion.logprobs - expected).max() <= 1e-5


def test_an_update_in_mid_generation_marks_every_token(engine, run, reference, publish, random_prompts):
    """Tokens before it carry the old version, tokens after it the new one, each with its own policy's log-probs."""
    prompts, old, new = random_prompts(8, seed=12), reference.perturbed(40), reference.perturbed(41)
    run(publish(engine, old.update(40)))

    async def swap() -> list[Any]:
        calls = [
            asyncio.ensure_future(engine.generate(ids, Sampling(max_tokens=180), i)) for i, ids in enumerate(prompts)
        ]
        while engine.stats()["steps"] < begun + 30:
            await asyncio.sleep(0.002)
        await publish(engine, new.update(41))
        return await asyncio.gather(*calls)

    begun = engine.stats()["steps"]
    mixed = 0
    for prompt, completion in zip(prompts, run(swap()), strict=True):
        assert (np.diff(completion.versions) >= 0).all() and set(completion.versions) <= {40, 41}
        mixed += len(set(completion.versions)) == 2
        ids = [*prompt, *completion.token_ids]
        expected = np.where(
            completion.versions == 40, old.logprobs(ids)[len(prompt) - 1 :], new.logprobs(ids)[len(prompt) - 1 :]
        )
        assert np.abs(completion.logprobs - expected).max() <= 1e-5
    assert mixed, "the update came too late to meet a running request"


def test_a_head_that_is_not_repacked_is_caught(make, run, reference, publish, monkeypatch):
    """After a step so small that its meaning is lost in rounding: the packed copy is read back, and did not change."""
    engine = make()
    run(publish(engine, reference.update(1)))
    run(publish(engine, reference.update(2)))
    monkeypatch.setattr("raylign.actors.rollout.cpu_patches.repack_head", lambda model: None)
    with pytest.raises(EngineDeadError, match=r"version 3 are not live: lm_head.packed of the engine did not change"):
        run(publish(engine, reference.perturbed(3, scale=1e-6).update(3)))
    with pytest.raises(EngineDeadError, match="not live"):
        run(engine.generate([10, 11], Sampling(max_tokens=2), 1))


def test_a_probe_that_disagrees_ends_the_engine_and_what_runs_on_it(make, run, reference, publish):
    engine, update = make(), reference.perturbed(3).update(3)
    wrong = replace(update, probe_logprobs=update.probe_logprobs - 0.01)

    async def swap() -> Any:
        call = asyncio.ensure_future(engine.generate([10, 11], Sampling(max_tokens=200), 1))
        await asyncio.sleep(0.01)
        with pytest.raises(EngineDeadError, match=r"0\.01 nat on average"):
            await publish(engine, wrong)
        with pytest.raises(EngineDeadError):
            await call

    run(swap())
    with pytest.raises(EngineDeadError):
        run(engine.pause())


def test_an_update_that_cannot_be_read_ends_the_engine(make, run, reference, publish):
    engine, update = make(), reference.update(5)
    with pytest.raises(EngineDeadError, match="of a buffer of"):
        run(publish(engine, replace(update, buffer=update.buffer[:1000])))


def test_broken_weights_are_caught(make, run, reference, publish):
    engine, update = make(), reference.update(6)
    with pytest.raises(EngineDeadError, match="not finite"):
        run(publish(engine, replace(update, buffer=np.full_like(update.buffer, 255))))
