"""Questions to a judge: cache, concurrency, tries, repeats, and failures that are never verdicts."""

from __future__ import annotations

import asyncio
import importlib
import json
import sys
from pathlib import Path
from typing import Any

import pytest

from raylign.actors.judge.blocking import BlockingJudge
from raylign.actors.judge.client import Judge, shared_judge
from raylign.actors.judge.scripted import Scripted
from raylign.config.build import part_config
from raylign.errors import ConfigError, JudgeUnavailable, JudgeUnreadable

SCHEMA = {"type": "object", "properties": {"answer": {"type": "boolean"}}, "required": ["answer"]}
ECHO = {"_target_": "raylign.actors.judge.scripted.Scripted", "function": "raylign.records.content_id"}


class Model:
    """Answers by a list, in turn, and remembers how many were asked at once."""

    def __init__(self, *answers: Any, delay: float = 0.0) -> None:
        self.answers, self.delay = list(answers), delay
        self.calls = self.now = self.most = 0
        self.seeds: list[int] = []

    async def __call__(self, messages: Any, sampling: Any, seed: int) -> str:
        self.calls += 1
        self.seeds.append(seed)
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(self.delay)
        self.now -= 1
        answer = self.answers[min(self.calls - 1, len(self.answers) - 1)]
        if isinstance(answer, Exception):
            raise answer
        return str(answer)


def judge(model: Model, **settings: Any) -> Judge:
    scripted = Scripted.of(lambda messages, sampling, seed: model(messages, sampling, seed))
    return Judge(Judge.Config(model=ECHO, **settings), model=scripted)


def question(text: str) -> tuple[dict[str, str]]:
    return ({"role": "user", "content": text},)


def read(value: Any) -> bool:
    if not isinstance(value["answer"], bool):
        raise ValueError("answer is no boolean")
    return value["answer"]


YES, NO = json.dumps({"answer": True}), json.dumps({"answer": False})


async def test_equal_questions_are_asked_once() -> None:
    model = Model(YES, delay=0.01)
    asked = judge(model)
    together = await asyncio.gather(*(asked.ask(question("a"), read, SCHEMA) for _ in range(5)))
    later = await asked.ask(question("a"), read, SCHEMA)
    assert [answer.value for answer in (*together, later)] == [True] * 6
    assert model.calls == 1
    assert (asked.counts.asked, asked.counts.hits, asked.counts.calls) == (6, 5, 1)
    await asked.ask(question("b"), read, SCHEMA)
    await asked.ask(question("a"), read, SCHEMA, salt="another")
    assert model.calls == 3  # other words, and another salt, are other questions


async def test_concurrency_is_bounded() -> None:
    model = Model(YES, delay=0.01)
    asked = judge(model, concurrency=3)
    await asyncio.gather(*(asked.ask(question(str(i)), read, SCHEMA) for i in range(12)))
    assert model.most == 3


async def test_an_answer_out_of_form_is_tried_again_with_another_seed() -> None:
    model = Model("no JSON", YES)
    answer = await judge(model).ask(question("a"), read, SCHEMA)
    assert answer.value is True and answer.counts.calls == 2
    assert len(set(model.seeds)) == 2


async def test_line_breaks_within_a_text_are_no_fault_of_form() -> None:
    """JSON wants them escaped; chat models write them as they are, and a grammar lets them."""
    model = Model(YES.replace("}", ', "thought": "one\ntwo\tthree"}'))
    assert (await judge(model, tries=1).ask(question("a"), read, SCHEMA)).value is True


async def test_answers_never_in_form_are_an_error_of_the_judge() -> None:
    model = Model("no JSON", json.dumps({"answer": "yes"}), json.dumps({"verdict": True}))
    asked = judge(model, tries=3)
    with pytest.raises(JudgeUnreadable, match="3 answers not in form"):
        await asked.ask(question("a"), read, SCHEMA)
    assert asked.counts.unreadable == 1 and asked.counts.unavailable == 0
    model.answers = [YES]
    assert (await asked.ask(question("a"), read, SCHEMA)).value is True  # a failure is not cached


async def test_an_unreachable_judge_reaches_everybody_who_waits() -> None:
    asked = judge(Model(JudgeUnavailable("gone"), delay=0.01))
    calls = (asked.ask(question("a"), read, SCHEMA) for _ in range(3))
    errors = await asyncio.gather(*calls, return_exceptions=True)
    assert all(isinstance(error, JudgeUnavailable) for error in errors)
    assert asked.counts.unavailable == 3


async def test_giving_up_does_not_take_the_answer_from_others() -> None:
    model = Model(YES, delay=0.05)
    asked = judge(model)
    first = asyncio.ensure_future(asked.ask(question("a"), read, SCHEMA))
    second = asyncio.ensure_future(asked.ask(question("a"), read, SCHEMA))
    await asyncio.sleep(0.01)
    first.cancel()
    assert (await second).value is True
    assert asked.counts.unavailable == 0 and model.calls == 2


async def test_agreement_is_measured_on_a_share_of_the_questions() -> None:
    asked = judge(Model(YES, NO), repeat_share=1.0)
    answer = await asked.ask(question("a"), read, SCHEMA)
    assert answer.value is True  # the first answer counts
    assert (asked.counts.repeats, asked.counts.disagreements) == (1, 1)
    model = Model(YES)
    some = judge(model, repeat_share=0.25, concurrency=8)
    await asyncio.gather(*(some.ask(question(str(i)), read, SCHEMA) for i in range(400)))
    assert 60 <= some.counts.repeats <= 140
    assert some.counts.disagreements == 0
    repeated = some.counts.repeats
    again = judge(Model(YES), repeat_share=0.25)
    await asyncio.gather(*(again.ask(question(str(i)), read, SCHEMA) for i in range(400)))
    assert again.counts.repeats == repeated  # the same questions, whoever asks


async def test_a_full_cache_forgets_the_least_recently_used() -> None:
    model = Model(YES)
    asked = judge(model, cache_entries=2)
    for text in ("a", "b", "a", "c", "a", "b"):
        await asked.ask(question(text), read, SCHEMA)
    assert model.calls == 4  # a b c, and b again
    none = judge(model, cache_entries=0)
    model.calls = 0
    for _ in range(3):
        await none.ask(question("a"), read, SCHEMA)
    assert model.calls == 3


async def test_the_cache_on_disk_outlives_the_process_and_a_torn_line(tmp_path: Path) -> None:
    first = Model(YES)
    scripted = Scripted.of(first.__call__)
    await Judge(Judge.Config(model=ECHO, cache_dir=str(tmp_path)), scripted).ask(question("a"), read, SCHEMA)
    (file,) = tmp_path.glob("*.jsonl")
    with file.open("ab") as out:
        out.write(b'["torn')
    second = Model(NO)
    again = Judge(Judge.Config(model=ECHO, cache_dir=str(tmp_path)), Scripted.of(second.__call__))
    assert (await again.ask(question("a"), read, SCHEMA)).value is True
    assert second.calls == 0 and again.counts.hits == 1


async def test_without_a_schema_the_reader_gets_the_text() -> None:
    answer = await judge(Model("CORRECT")).ask(question("a"), lambda text: text == "CORRECT")
    assert answer.value is True


def test_callers_without_a_loop_block() -> None:
    asked = BlockingJudge({"model": {**ECHO, "function": "raylign.actors.judge.scripted.echo"}})
    words = [question(str(i)) for i in range(20)]
    answers = asked(lambda j: asyncio.gather(*(j.ask(w, str) for w in words)))
    assert [answer.value for answer in answers] == [str(i) for i in range(20)]
    with pytest.raises(ConfigError, match="did you mean cache_dir"):
        BlockingJudge({"model": ECHO, "cache_dri": "x"})(lambda j: asyncio.sleep(0))


async def test_one_judge_a_process_for_the_same_settings() -> None:
    node = {"model": {**ECHO, "function": "raylign.actors.judge.scripted.echo"}}
    assert shared_judge(node) is shared_judge(dict(node))
    assert shared_judge({**node, "tries": 3}) is not shared_judge(node)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"model": {}}, "model is empty"),
        ({"model": ECHO, "tries": 0}, "tries is 0"),
        ({"model": ECHO, "repeat_share": 2.0}, "repeat_share"),
    ],
)
def test_settings_that_make_no_sense_are_named(settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        part_config({"_target_": "raylign.actors.judge.client.Judge", **settings}, "judge")


def test_a_script_outside_the_package_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"within raylign\."):
        part_config({"_target_": ECHO["_target_"], "function": "os.system"}, "judge.model")


def test_a_function_that_was_edited_is_another_judge(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(tmp_path))
    names = []
    for said in ("yes", "yes", "nothing"):
        (tmp_path / "edited_judge.py").write_text(f"def say(messages, sampling, seed):\n    return {said!r}\n")
        importlib.invalidate_caches()
        sys.modules.pop("edited_judge", None)
        names.append(Scripted.of(importlib.import_module("edited_judge").say).name)
    assert names[0] == names[1] != names[2]
