"""Scores and vectors of a served model take the way of its answers: cache, limits, failures that are no numbers."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.judge.chat import ChatModel, Reply
from raylign.actors.judge.client import TEXTS, Judge
from raylign.contracts import Sampling
from raylign.errors import JudgeUnavailable, JudgeUnreadable, NotFinite
from raylign.records import Message

ASKED = ({"role": "user", "content": "1+1?"},)
NODE = {"_target_": f"{__name__}.Model"}


class Model(ChatModel):
    """Scores and vectors by rule; remembers what it was asked."""

    @dataclass
    class Config:
        name: str = "m"

    def __init__(self, config: Any = None, wrong: Any = None) -> None:
        super().__init__(config or self.Config())
        self.asked: list[Any] = []
        self.now = self.most = 0
        self.wrong = wrong

    @property
    def name(self) -> str:
        return "m"

    async def identity(self) -> str:
        return str(self.config.name)

    async def complete(self, messages: Sequence[Message], sampling: Sampling, seed: int) -> Reply:
        return Reply(text="yes", tokens=1, seconds=0.0)

    async def score(self, before: Any, ids: Any) -> Any:
        await self._work((list(before), list(ids)))
        return self.wrong if self.wrong is not None else np.array([-0.1 * number for number in ids], np.float32)

    async def embed(self, texts: Sequence[str]) -> Any:
        await self._work(list(texts))
        return self.wrong if self.wrong is not None else np.array([[len(text), 1 / 3] for text in texts], np.float32)

    async def _work(self, what: Any) -> None:
        self.asked.append(what)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(0.01)
        self.now -= 1
        if isinstance(self.wrong, Exception):
            raise self.wrong


def judge(model: Model, **settings: Any) -> Judge:
    return Judge(Judge.Config(model=NODE, **settings), model)


async def test_the_same_ids_after_the_same_words_are_scored_once() -> None:
    model = Model()
    asked = judge(model)
    ids = np.array([1, 2, 3], np.int32)
    same = [asked.score(ASKED, ids), asked.score(list(ASKED), [1, 2, 3]), asked.score(ASKED, (1, 2, 3))]
    for answer in await asyncio.gather(*same):
        np.testing.assert_array_equal(answer.value, np.array([-0.1, -0.2, -0.3], np.float32))
        assert answer.value.dtype == np.float32
    assert model.asked == [([*ASKED], [1, 2, 3])]
    assert (asked.counts.asked, asked.counts.hits, asked.counts.calls) == (3, 2, 1)
    for before, others in ((np.array([7, 8]), ids), ([7, 9], ids), (ASKED, ids[:2]), (ASKED, ids[::-1])):
        await asked.score(before, others)
    assert len(model.asked) == 5 and model.asked[1] == ([7, 8], [1, 2, 3])


async def test_texts_are_embedded_once_and_in_their_order() -> None:
    model = Model()
    asked = judge(model)
    texts = [f"{'x' * (number % 200)}" for number in range(300)]
    both = await asyncio.gather(asked.embed(texts), asked.embed(texts[::-1]))
    expected = np.array([[len(text), 1 / 3] for text in texts], np.float32)
    np.testing.assert_array_equal(both[0].value, expected)
    np.testing.assert_array_equal(both[1].value, expected[::-1])
    assert sorted(len(texts) for texts in model.asked) == [200 - 3 * TEXTS, TEXTS, TEXTS, TEXTS]
    assert (asked.counts.asked, asked.counts.hits, asked.counts.calls) == (600, 400, 4)
    assert (await asked.embed([])).value.shape == (0, 0)


async def test_all_verbs_share_one_limit() -> None:
    model = Model()
    asked = judge(model, concurrency=2)
    await asyncio.gather(
        *(asked.score([1], [number]) for number in range(6)), *(asked.embed([f"{number}"]) for number in range(6))
    )
    assert model.most == 2 and asked.counts.calls == 12


async def test_an_impossible_id_is_told_apart_from_a_wrong_number_of_them() -> None:
    """Who asks for a loss may take the one as infinite, and the other says nothing."""
    for wrong, impossible in ((np.array([-0.1, -np.inf], np.float32), True), (np.array([-0.1], np.float32), False)):
        with pytest.raises(JudgeUnreadable) as raised:
            await judge(Model(wrong=wrong)).score([1], [2, 3])
        assert isinstance(raised.value, NotFinite) is impossible


@pytest.mark.parametrize(
    ("wrong", "error"),
    [
        (JudgeUnavailable("gone"), JudgeUnavailable),
        (np.array([-0.1], np.float32), JudgeUnreadable),
        (np.array([-0.1, np.nan], np.float32), JudgeUnreadable),
        (np.array([[1.0, np.inf]] * 2, np.float32), JudgeUnreadable),
    ],
)
async def test_what_is_no_number_for_each_is_an_error_for_all_who_wait(wrong: Any, error: type[Exception]) -> None:
    model = Model(wrong=wrong)
    asked = judge(model)
    calls = [asked.score([1], [2, 3]), asked.score([1], [2, 3]), asked.embed(["a", "b"])]
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(found, error) for found in errors), errors
    unavailable = 3 * (error is JudgeUnavailable)
    assert (asked.counts.unavailable, asked.counts.unreadable) == (unavailable, 3 - unavailable)
    assert len(model.asked) == 2, "who waits for the same ids is told, and does not ask again"
    model.wrong = None
    assert (await asked.score([1], [2, 3])).value.shape == (2,), "a failure is not kept"


async def test_what_is_kept_on_disk_is_of_the_model_and_not_of_its_name(tmp_path: Path) -> None:
    first, same, other = Model(), Model(), Model(Model.Config(name="trained"))
    for model in (first, same, other):
        asked = judge(model, cache_dir=str(tmp_path))
        await asked.score([1], [2])
        await asked.embed(["a"])
        await asked.ask(ASKED, str)
    assert [len(model.asked) for model in (first, same, other)] == [2, 0, 2]


async def test_a_model_that_cannot_says_so() -> None:
    from raylign.actors.judge.scripted import Scripted

    model = Scripted.of(lambda messages, sampling, seed: "yes")
    for call in (model.score([1], [2]), model.embed(["a"])):
        with pytest.raises(JudgeUnavailable, match=r"cannot (score|embed)"):
            await call
