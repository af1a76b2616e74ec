"""The in-process engine: log-probs, seeds, structure, and what it refuses."""

from __future__ import annotations

import asyncio
import json
import time
from typing import Any

import numpy as np
import pytest

from raylign.contracts import Sampling
from raylign.errors import RequestError
from raylign.records import StopReason

pytestmark = pytest.mark.vllm


async def generate(engine: Any, prompts: list[list[int]], sampling: Sampling, first_seed: int = 0) -> list[Any]:
    async with engine.held():
        calls = [asyncio.ensure_future(engine.generate(ids, sampling, first_seed + i)) for i, ids in enumerate(prompts)]
    return await asyncio.gather(*calls)


def test_more_requests_than_sequences_that_all_end_in_the_same_step(engine, run, random_prompts):
    """64 of 100 run, all of them end at once, and nothing but the engine's own queue is left to start the others."""
    prompts = [random_prompts(1)[0]] * 100
    completions = run(asyncio.wait_for(generate(engine, prompts, Sampling(max_tokens=1)), 60))
    assert len(completions) == 100


@pytest.mark.parametrize("temperature", [1.0, 0.7])
def test_logprobs_are_those_of_transformers(engine, run, reference, random_prompts, temperature):
    prompts = random_prompts(8)
    for prompt, completion in zip(
        prompts, run(generate(engine, prompts, Sampling(max_tokens=40, temperature=temperature))), strict=True
    ):
        expected = reference.logprobs([*prompt, *completion.token_ids], temperature)[len(prompt) - 1 :]
        assert np.abs(completion.logprobs - expected).max() <= 1e-5
        assert len(completion.token_ids) == len(completion.logprobs) == len(completion.versions)


def test_top_p_logprobs_are_renormalised_over_what_is_kept(engine, run, reference, random_prompts):
    prompts = random_prompts(8, seed=1)
    sampling = Sampling(max_tokens=40, temperature=0.5, top_p=0.6)
    for prompt, completion in zip(prompts, run(generate(engine, prompts, sampling)), strict=True):
        expected = reference.logprobs([*prompt, *completion.token_ids], 0.5, 0.6)[len(prompt) - 1 :]
        assert np.isfinite(expected).all(), "a token outside the kept set was sampled"
        assert np.abs(completion.logprobs - expected).max() <= 1e-5


def test_a_seed_gives_the_same_tokens_alone_and_among_32(engine, run, random_prompts):
    prompts, sampling = random_prompts(32, seed=2), Sampling(max_tokens=48)
    together = run(generate(engine, prompts, sampling))
    for i in (0, 7, 31):
        alone = run(engine.generate(prompts[i], sampling, i))
        assert alone.token_ids.tolist() == together[i].token_ids.tolist()
        assert (alone.logprobs == together[i].logprobs).all()  # bit-equal: one thread, fp32
    other = run(engine.generate(prompts[0], sampling, 12345))
    assert other.token_ids.tolist() != together[0].token_ids.tolist()


def test_seeds_drawn_in_blocks_are_vllms_own(engine, run, random_prompts):
    """The faster sampler must draw what vLLM draws, past the end of a block too."""
    prompts, sampling = random_prompts(3, seed=3), Sampling(max_tokens=150, temperature=0.3)
    ours = run(generate(engine, prompts, sampling))
    sampler = engine._engine.model_executor.driver_worker.model_runner.sampler.topk_topp_sampler
    replaced, sampler.forward = sampler.forward, sampler.forward_cpu
    try:
        theirs = run(generate(engine, prompts, sampling))
    finally:
        sampler.forward = replaced
    assert max(len(completion.token_ids) for completion in ours) > 64
    for one, two in zip(ours, theirs, strict=True):
        assert one.token_ids.tolist() == two.token_ids.tolist()
        assert (one.logprobs == two.logprobs).all()


def test_greedy_takes_the_most_likely_token(engine, run, reference, random_prompts):
    prompt = random_prompts(1, seed=4)[0]
    completion = run(engine.generate(prompt, Sampling(max_tokens=10, temperature=0.0), 1))
    again = run(engine.generate(prompt, Sampling(max_tokens=10, temperature=0.0), 2))
    assert completion.token_ids.tolist() == again.token_ids.tolist()
    expected = reference.logprobs([*prompt, *completion.token_ids])[len(prompt) - 1 :]
    assert np.abs(completion.logprobs - expected).max() <= 1e-5


def test_score_is_a_forward_pass(engine, run, reference, random_prompts):
    row = random_prompts(1, seed=5, low=200, high=250)[0]
    expected = reference.logprobs(row)
    assert np.abs(run(engine.score(row, 1)) - expected).max() <= 1e-5
    assert np.abs(run(engine.score(row, 100)) - expected[99:]).max() <= 1e-5
    with pytest.raises(RequestError, match="first token has no log-prob"):
        run(engine.score(row, 0))


def test_structured_output(engine, run):
    schema = {
        "type": "object",
        "properties": {"ok": {"type": "boolean"}},
        "required": ["ok"],
        "additionalProperties": False,
    }
    prompt = [40, 41, 42]
    completion = run(engine.generate(prompt, Sampling(max_tokens=40, structure={"json": schema}), 3))
    assert isinstance(json.loads(completion.text)["ok"], bool)
    assert " " not in completion.text
    assert completion.stop is StopReason.EOS
    assert run(engine.generate(prompt, Sampling(max_tokens=40, structure={"choice": ["yes", "no"]}), 3)).text in (
        "yes",
        "no",
    )
    completion = run(engine.generate(prompt, Sampling(max_tokens=40, structure={"regex": "[0-9]{3}"}), 3))
    assert completion.text.isdigit() and len(completion.text) == 3


def test_stop_reasons(engine, run, random_prompts):
    prompt = random_prompts(1, seed=6)[0]
    cut = run(engine.generate(prompt, Sampling(max_tokens=3), 4))
    assert cut.stop is StopReason.LENGTH and len(cut.token_ids) == 3
    whole = run(engine.generate(prompt, Sampling(max_tokens=60), 4))
    letter = next(letter for letter in whole.text if letter.isascii() and letter.isalpha())
    completion = run(engine.generate(prompt, Sampling(max_tokens=60, stop=(letter,)), 4))
    assert completion.stop is StopReason.STOP and completion.text.endswith(letter)
    assert completion.token_ids.tolist() == whole.token_ids[: len(completion.token_ids)].tolist()


def test_what_cannot_be_served_is_refused_and_the_rest_goes_on(engine, run, random_prompts):
    good, sampling = random_prompts(1, seed=7)[0], Sampling(max_tokens=5)
    bad = Sampling(max_tokens=5, structure={"regex": "("})

    async def together() -> list[Any]:
        calls = [
            engine.generate(good, sampling, 1),
            engine.generate(list(range(6, 200)) * 2, sampling, 1),
            engine.generate([], sampling, 1),
            engine.generate([10**6], sampling, 1),
            engine.generate(good, bad, 1),
            engine.generate(good, Sampling(max_tokens=0), 1),
        ]
        return await asyncio.gather(*calls, return_exceptions=True)

    served, *refused = run(together())
    assert len(served.token_ids) == 5
    assert all(isinstance(error, RequestError) for error in refused), refused
    assert "388 tokens; with a context of 256 at most 255 fit" in str(refused[0])


def test_more_prompt_tokens_than_one_step_takes(engine, run, random_prompts):
    """A prompt cut into chunks would make vLLM rewind a CPU generator, which kills the engine."""
    prompts = random_prompts(50, seed=8, low=235, high=240)
    assert sum(map(len, prompts)) > 8192
    completions = run(generate(engine, prompts, Sampling(max_tokens=10)))
    assert all(len(completion.token_ids) for completion in completions)


def test_a_response_that_reaches_the_context_is_cut(engine, run, random_prompts):
    prompt = random_prompts(1, seed=9, low=250, high=251)[0]
    completion = run(engine.generate(prompt, Sampling(max_tokens=100), 1))
    assert completion.stop in (StopReason.LENGTH, StopReason.EOS) and len(completion.token_ids) <= 6


def test_a_cancelled_request_leaves_the_engine(engine, run, random_prompts):
    async def cancel() -> None:
        call = asyncio.ensure_future(engine.generate(random_prompts(1)[0], Sampling(max_tokens=200), 1))
        await asyncio.sleep(0.02)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await engine.generate(random_prompts(1)[0], Sampling(max_tokens=2), 1)

    run(cancel())
    assert engine.stats()["running"] == 0


def test_requests_made_while_held_enter_in_the_order_of_their_seeds(engine, run, random_prompts):
    prompts = random_prompts(6, seed=10)
    admitted: list[int] = []
    original = engine._engine.add_request

    def add(request_id: str, prompt: Any, params: Any, lora_request: Any) -> Any:
        admitted.append(params.seed)
        return original(request_id, prompt, params, lora_request=lora_request)

    async def shuffled() -> None:
        async with engine.held():
            calls = [
                asyncio.ensure_future(engine.generate(prompts[i], Sampling(max_tokens=2), i)) for i in (3, 1, 5, 0)
            ]
            await asyncio.sleep(0.05)
            assert admitted == []
        await asyncio.gather(*calls)

    engine._engine.add_request = add
    try:
        run(shuffled())
    finally:
        del engine._engine.add_request
    assert admitted == [0, 1, 3, 5]


def test_threads_are_the_configured_ones_and_idle_costs_nothing(engine, run):
    import torch

    assert run(engine._owner.call(torch.get_num_threads)) == engine.spec.threads
    before = time.process_time()
    time.sleep(1.0)
    assert time.process_time() - before < 0.3


def test_a_turn_stops_at_every_end_and_text_keeps_other_special_tokens(engine, run, random_prompts, monkeypatch):
    template, tokenizer = engine.template, engine.tokenizer
    assert template.ends == {tokenizer.eos_token_id}
    other = tokenizer.convert_tokens_to_ids("<|user|>")  # as GLM-4's turns end in the next one's header
    monkeypatch.setitem(template.__dict__, "ends", frozenset({tokenizer.eos_token_id, other}))
    monkeypatch.setitem(template.__dict__, "_silent", frozenset({tokenizer.eos_token_id, other}))
    completions = run(generate(engine, random_prompts(64, seed=5), Sampling(max_tokens=200)))
    lasts = [int(completion.token_ids[-1]) for completion in completions if completion.stop is StopReason.EOS]
    assert other in lasts and tokenizer.eos_token_id in lasts and len(set(lasts)) == 2
    for completion in completions:
        assert not template.ends.intersection(completion.token_ids[:-1].tolist())
        special = ["<|system|>", "<|assistant|>", "<|tool|>"]
        counts = [
            sum(tokenizer.convert_tokens_to_ids(token) == i for i in completion.token_ids.tolist()) for token in special
        ]
        assert [completion.text.count(token) for token in special] == counts
        assert "<|user|>" not in completion.text and "<|end|>" not in completion.text
