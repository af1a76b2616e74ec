"""What a later turn reads where the template rewrites the past: the sampled ids, or a context of its own."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from raylign.actors.rollout.path import Limits, Path
from raylign.batch import Batch
from raylign.chat.template import ChatTemplate
from raylign.contracts import Completion, RolloutTask, Sampling
from raylign.environment import Observation
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.records import Group, Prompt, StopReason
from raylign.testing import rows_of

THOUGHTS = ("<think>\nt\n</think>\n\nb", "<think>\nu\n</think>\n\nd", "<think>\nv\n</think>\n\nf")
ENVIRONMENT = ("c", "e", "")


class Scripted:
    """A policy that says its lines, each ended by itself."""

    max_context = 1000

    def __init__(self, template: ChatTemplate) -> None:
        self.template, self.tokenizer, self.read = template, template.tokenizer, list[list[int]]()

    async def generate(self, token_ids: Any, sampling: Sampling, seed: int) -> Completion:
        text = THOUGHTS[len(self.read)]
        self.read.append([int(i) for i in token_ids])
        question = [{"role": "user", "content": "a"}]
        end = self.template.answer_ids(question, {"role": "assistant", "content": "b"})[-1]
        ids = np.array([*self.template.codec.encode(text), end], np.int32)
        zeros = np.zeros(len(ids), np.float32)
        said = self.template.text_of(ids)
        return Completion(token_ids=ids, logprobs=zeros - 1, versions=ids * 0, stop=StopReason.EOS, text=said)


class Environment:
    """Answers with the next line, and is done after the last."""

    def __init__(self) -> None:
        self.turn = 0

    async def step(self, action: str) -> Observation:
        self.turn += 1
        messages = ({"role": "user", "content": ENVIRONMENT[self.turn - 1]},)
        return Observation(messages=messages, reward=1.0, done=self.turn == len(ENVIRONMENT))


async def episode(template: ChatTemplate) -> tuple[Prompt, Path, Scripted]:
    question = ({"role": "user", "content": "a"},)
    prompt = Prompt(id="p", messages=question, token_ids=np.array(template.prompt_ids(question), np.int32))
    task, policy = RolloutTask(prompt=prompt, n=1, sampling=Sampling(max_tokens=50), run_seed=1), Scripted(template)
    path = Path(task, 0, policy, Limits(turns=5, tokens=0), Environment())  # type: ignore[arg-type]
    while path.stop is None:
        await path.act(await path.sample(0))
    return prompt, path, policy


def contexts(template: ChatTemplate) -> list[list[int]]:
    """What the template renders before each turn."""
    messages, contexts = [{"role": "user", "content": "a"}], []
    for said, answer in zip(THOUGHTS, ENVIRONMENT, strict=True):
        contexts.append(template.prompt_ids(messages))
        messages += [{"role": "assistant", "content": said}, {"role": "user", "content": answer}]
    return contexts


def rows(path: Path, prompt: Prompt) -> Batch:
    trajectory = path.trajectory()
    return rows_of([Group(prompt=prompt, trajectories=(trajectory, trajectory), scores=(1.0, 0.0))]).batch


async def test_kept_ids_stay_as_they_were_sampled(tokenizers: Any) -> None:
    template = ChatTemplate(tokenizers["qwen3"])
    prompt, path, policy = await episode(template)
    assert policy.read[1][: len(policy.read[0])] == policy.read[0]
    assert policy.read[2][: len(policy.read[1])] == policy.read[1]
    assert template.codec.decode(policy.read[2]).count("<think>") == 2
    assert path.trajectory().metrics["episode/chat_mismatch"] == 1
    batch = rows(path, prompt)
    assert batch.by_context() is batch and "fresh" not in batch


async def test_a_fresh_context_is_what_the_template_renders_and_a_row_of_its_own(tokenizers: Any) -> None:
    template = ChatTemplate(tokenizers["qwen3"], fresh=True)
    prompt, path, policy = await episode(template)
    assert policy.read == contexts(template)
    assert [call.fresh for call in path.trajectory().calls] == [False, True, True]
    batch = rows(path, prompt)
    assert len(batch) == 2, "advantages belong to trajectories"
    cut = batch.by_context()
    assert len(cut) == 6 and cut.streams is batch.streams
    for row in range(6):
        said = path.calls[row % 3].token_ids
        assert cut.row(row, "token_ids").tolist() == [*policy.read[row % 3], *said]
        assert cut.row(row, "loss_mask").tolist() == [False] * len(policy.read[row % 3]) + [True] * len(said)
        assert cut.prompt_lengths[row] == len(policy.read[row % 3])
    assert cut.prompts.tolist() == [0, 1, 2, 0, 1, 2], "contexts that begin alike share their beginning"
    assert not cut.groups.any(), "and all are of one group"


async def test_a_past_that_the_template_does_not_rewrite_goes_on_in_its_context(tokenizers: Any) -> None:
    template = ChatTemplate(tokenizers["llama3"], fresh=True)
    _, path, policy = await episode(template)
    assert not any(call.fresh for call in path.trajectory().calls)
    assert policy.read[2][: len(policy.read[1])] == policy.read[1]


@pytest.mark.parametrize("apart", [False, True], ids=["in the text", "apart"])
def test_demonstrations_are_laid_out_as_episodes_are(apart: bool, tokenizers: Any) -> None:
    """Two turns with thoughts: one row of kept ids, or a row for each with the earlier thought dropped."""
    template = ChatTemplate(tokenizers["qwen3"])
    said = [{"role": "assistant", "content": text} for text in THOUGHTS[:2]]
    if apart:
        said = [{"role": "assistant", "content": text[-1], "reasoning_content": text[8]} for text in THOUGHTS[:2]]
    following = [said[0], {"role": "user", "content": "c"}, said[1]]
    question = ({"role": "user", "content": "a"},)
    ids = np.array(template.prompt_ids(question), np.int32)
    prompt = Prompt(id="p", messages=question, token_ids=ids, meta={"demonstration": following})
    (kept,) = demonstrations([prompt], template)
    texts = [template.codec.decode(row.token_ids[row.loss_mask]) for row in (kept,)]
    assert texts == [f"{THOUGHTS[0]}<|im_end|>{THOUGHTS[1]}<|im_end|>"]
    fresh = ChatTemplate(tokenizers["qwen3"], fresh=True)
    first, second = demonstrations([prompt], fresh)
    assert first.group != second.group
    expected = contexts(fresh)
    for row, context, text in zip((first, second), expected, THOUGHTS, strict=False):
        assert row.token_ids[: row.prompt_length].tolist() == context
        assert fresh.codec.decode(row.token_ids[row.loss_mask]) == f"{text}<|im_end|>"


async def test_a_fork_keeps_its_context(tokenizers: Any) -> None:
    template = ChatTemplate(tokenizers["qwen3"], fresh=True)
    prompt, _, _ = await episode(template)
    task = RolloutTask(prompt=prompt, n=1, sampling=Sampling(max_tokens=50), run_seed=1)

    class Branching(Environment):
        async def branch(self, noise: int | None) -> Environment:
            twin = Branching()
            twin.turn = self.turn
            return twin

    policy = Scripted(template)
    path = Path(task, 0, policy, Limits(turns=5, tokens=0), Branching())  # type: ignore[arg-type]
    await path.act(await path.sample(0))
    twin = await path.fork()
    for environment in (path, twin):
        policy.read = policy.read[:1]
        await environment.act(await environment.sample(0))
        assert policy.read[1] == contexts(template)[1]
    assert [replace(call, text="").fresh for call in twin.calls] == [False, True]
