"""Episodes as rows to imitate: every id that was sampled, what was read between, and teachers that are chat models."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from stage_run import FakeRun, finished, lines

from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.judge.episodes import ChatEpisodes
from raylign.actors.judge.scripted import Scripted
from raylign.actors.rollout.chat import Chat
from raylign.actors.rollout.multi_turn import MultiTurn
from raylign.chat.template import ChatTemplate
from raylign.config.schema import DataConfig
from raylign.contracts import EnvironmentSpec, RolloutTask, Sampling, View
from raylign.data.prompts import load_prompts
from raylign.environment import Environment, Observation
from raylign.errors import ConfigError, DataError, JudgeUnavailable
from raylign.loop.rows import row_from
from raylign.models.tokenizer import load_tokenizer
from raylign.recipes.stage_order import run_stages
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.records import Call, Prompt, StopReason, Trajectory
from raylign.testing import FakeRollouts, call, prompt, tiny_run, trajectory

GENERATE = "raylign.recipes.stages.generate.Generate"
OWN = f"run.allow_targets=[{__name__}.]"


class Counting(Environment):
    """Says how often it was spoken to, as a tool; the third time ends it, or a word of its own."""

    @dataclass
    class Config:
        """breaks: at its first word."""

        breaks: bool = False

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        self.said = 0
        return Observation(messages=prompt.messages)

    def step(self, action: str) -> Observation:
        if self.config.breaks:
            raise RuntimeError("broken")
        self.said += 1
        done = self.said == 3 or action == "stop"
        messages = () if done else ({"role": "tool", "content": f"heard {self.said}"},)
        return Observation(messages=messages, reward=float(done), done=done, flags={"turn": self.said - 1})


def played(template: ChatTemplate, asked: Prompt, said: Sequence[tuple[str, list[int], bool]]) -> Trajectory:
    """An episode as `Path` lays it out: (text, further ids that no encoding of the text has, whether it ended)."""
    chat, context, calls = Chat(template, asked.messages), np.zeros(0, np.int32), list[Call]()
    end = int(template.tokenizer.eos_token_id)
    for number, (text, odd, ended) in enumerate(said):
        ids = [*template.codec.encode(text), *odd, *([end] if ended else [])]
        last = number + 1 == len(said)
        observed = () if last else ({"role": "tool", "content": f"heard {number}"},)
        stop = StopReason.EOS if ended else StopReason.LENGTH
        calls.append(call(text, ids, context_ids=context, reward=0.5, stop=stop, observed=observed))
        context = chat.answered(text, end if ended else None, observed)
    return trajectory(*calls, stop=StopReason.DONE)


async def test_a_row_of_an_episode_has_the_ids_that_were_sampled_and_no_others(
    tmp_path: Path, data: str, tiny_model: Path
) -> None:
    template = ChatTemplate(load_tokenizer(str(tiny_model), False))
    pad = template.tokenizer.pad_token_id
    said = [("ask", [pad], True), ("cut", [], False), ("done", [pad, pad], True)]
    episodes: dict[str, Trajectory] = {}

    def says(task: RolloutTask, index: int) -> Trajectory:
        # of one prompt a single call: an environment may end at once
        only = task.prompt.messages[-1]["content"] == "say 3"
        episodes[task.prompt.id] = played(template, task.prompt, said[2:] if only else said)
        return episodes[task.prompt.id]

    made = f"+stages.made={{_target_: {GENERATE}, weights: {{}}}}"
    context, results = await finished(tmp_path / "run", data, made, rewards={}, rollouts=FakeRollouts(says))
    asked = {one.messages[-1]["content"]: one for one in context.prompts.train}
    read = load_prompts(DataConfig(path=results["made"].artifacts["rows"], holdout=0), template, 1).train
    assert len(read) == len(asked) == 10
    for known, row in zip(read, demonstrations(read, template), strict=True):
        before = asked[known.messages[-1]["content"]]
        rolled = row_from(episodes[before.id], before, 0)
        assert row.token_ids.tolist() == rolled.token_ids.tolist()
        assert row.loss_mask.tolist() == rolled.loss_mask.tolist() and row.prompt_length == rolled.prompt_length
        spoken = template.tokenizer.decode(row.token_ids)
        assert spoken.count("heard") == (0 if before.messages[-1]["content"] == "say 3" else 2)


def test_ids_of_another_vocabulary_are_left_alone(tiny_model: Path) -> None:
    template = ChatTemplate(load_tokenizer(str(tiny_model), False))
    plain = [
        {"role": "assistant", "content": "a"},
        {"role": "tool", "content": "b"},
        {"role": "assistant", "content": "c"},
    ]
    ids = template.prompt_ids(({"role": "user", "content": "?"},))
    asked = prompt(messages=({"role": "user", "content": "?"},), token_ids=np.array(ids, np.int32))
    for foreign in ([10**9], [-1], template.codec.encode("another text")):
        told = [{**message, "token_ids": foreign} if message["role"] == "assistant" else message for message in plain]
        row, expected = (
            demonstrations([replace(asked, meta={"demonstration": said})], template)[0] for said in (told, plain)
        )
        assert row.token_ids.tolist() == expected.token_ids.tolist()


async def test_episodes_make_no_pairs_and_calls_without_observations_no_rows(tmp_path: Path, data: str) -> None:
    def says(task: RolloutTask, index: int) -> Trajectory:
        answered = call("a", reward=0.0, observed=({"role": "tool", "content": "b"},))
        return trajectory(answered, call("c", reward=float(index)))

    worst = "{_target_: raylign.recipes.stages.keep.BestAndWorst}"
    made = f"+stages.made={{_target_: {GENERATE}, samples: 2, keep: {worst}}}"
    fakes: Any = {"rewards": {"correct": lambda p, t: t.calls[-1].reward}, "rollouts": FakeRollouts(says)}
    with pytest.raises(DataError, match=r"2 calls is no single target; fix: .*no pairs of them"):
        await finished(tmp_path / "pairs", data, made, **fakes)
    silent = FakeRollouts(lambda task, index: trajectory(call("a", reward=0.0), call("b", reward=1.0)))
    made = f"+stages.made={{_target_: {GENERATE}, weights: {{}}}}"
    asked = call("a", reward=0.0, observed=({"role": "tool", "content": "b"},))
    read = FakeRollouts(lambda task, index: trajectory(replace(asked, learn=False), call("c", reward=1.0)))
    parts = FakeRollouts(lambda task, index: trajectory(replace(asked, role="x"), call("c", role="y")))
    for name, rollouts in (("silent", silent), ("read", read), ("parts", parts)):
        with pytest.raises(DataError, match="2 calls is no single target"):
            await finished(tmp_path / name, data, made, rewards={}, rollouts=rollouts)


def teacher(messages: Any, sampling: Any, seed: int, absent: bool = False) -> str:
    """Says what it heard last, and whether it was told to be careful."""
    if absent:
        raise JudgeUnavailable("the teacher is away")
    careful = "carefully " if messages[0]["content"] == "take care" else ""
    return f"{careful}{messages[-1]['role']}:{messages[-1]['content']}"


async def episodes(model: Scripted, limits: MultiTurn.Config, **environment: Any) -> list[Any]:
    host = EnvironmentHost({"_target_": f"{__name__}.Counting", **environment})
    task = RolloutTask(prompt=prompt(text="begin"), n=2, sampling=Sampling(max_tokens=9), run_seed=1)
    scored = [one async for some in ChatEpisodes(model, host, limits).stream([task]) for one in some]
    assert host.episodes == 0
    return sorted(scored, key=lambda one: one.trajectory.sample_index)


async def test_a_chat_model_lives_an_episode() -> None:
    for one in await episodes(Scripted.of(teacher), MultiTurn.Config()):
        said = [call.text for call in one.trajectory.calls]
        assert said == ["user:begin", "user:heard 1", "user:heard 2"] and not one.error
        assert one.trajectory.stop is StopReason.DONE and one.trajectory.metrics["episode/return"] == 1.0
        assert [call.observed for call in one.trajectory.calls][1] == ({"role": "tool", "content": "heard 2"},)
    for one in await episodes(Scripted.of(teacher), MultiTurn.Config(max_turns=2)):
        assert one.trajectory.stop is StopReason.TURNS and len(one.trajectory.calls) == 2


async def test_an_episode_without_model_or_environment_is_missing() -> None:
    for one in await episodes(Scripted.of(teacher, absent=True), MultiTurn.Config()):
        assert one.error == "the teacher is away" and not one.trajectory.calls
    for one in await episodes(Scripted.of(teacher), MultiTurn.Config(retries=1), breaks=True):
        assert "no environment" in one.error and "broken" in one.error and not one.trajectory.calls


class Instructed(View):
    """A system message for the teacher."""

    @dataclass
    class Config:
        """Nothing to set."""

    def __init__(self, config: Any, tokenizer: Any, seed: int) -> None:
        super().__init__(config)

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`."""
        told = {"role": "system", "content": "take care"}
        return [replace(one, messages=(told, *one.messages)) for one in prompts]


class Careful(FakeRun):
    """A run whose episodes live in this process."""

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)

        async def environment(stage: str = "", node: Any = None) -> EnvironmentSpec:
            return EnvironmentSpec(node=self.run.config.environment.fn, timeout_s=9.0)

        self.roles = SimpleNamespace(**vars(self.roles), environment=environment)


async def test_a_teacher_plays_with_instructions_that_its_pupil_does_not_read(tmp_path: Path, data: str) -> None:
    made = f"+stages.made={{_target_: {GENERATE}, weights: {{}}, view: {{_target_: {__name__}.Instructed}}, "
    made += "teacher: {_target_: raylign.actors.judge.scripted.Scripted, function: raylign.actors.judge.scripted.echo}}"
    plays = "rollout.strategy={_target_: raylign.actors.rollout.multi_turn.MultiTurn, max_turns: 5}"
    world = f"environment.fn={{_target_: {__name__}.Counting}}"
    context = Careful(tmp_path / "run", data, made, plays, world, OWN, rewards={})
    await run_stages(context)
    rows = lines(tmp_path / "run/stages/made/rows.jsonl")
    assert len(rows) == 10
    for row in rows:
        (asked,) = row["messages"]
        said = row["meta"]["demonstration"]
        assert [message["role"] for message in said] == ["assistant", "tool", "assistant", "tool", "assistant"]
        assert [message["content"] for message in said][:2] == [asked["content"], "heard 1"]
        assert "token_ids" not in said[0] and row["meta"]["generated"]["model"].startswith("raylign.actors.judge")
    read = load_prompts(DataConfig(path=str(tmp_path / "run/stages/made/rows.jsonl"), holdout=0), context.template, 1)
    row = demonstrations(read.train, context.template)[0]
    assert context.template.tokenizer.decode(row.token_ids).count("<|tool|>heard") == 2


def test_who_answers_in_place_of_the_engines_is_one_and_does_not_search() -> None:
    script = "{_target_: raylign.actors.judge.scripted.Scripted, function: raylign.actors.judge.scripted.echo}"
    beam = "{_target_: raylign.actors.rollout.beam.Beam}"
    for fields, said in (
        (f"by: none, teacher: {script}", "stages.made.teacher = given: answers beside judges.none"),
        (f"teacher: {script}, strategy: {beam}", "stages.made.strategy = Beam: is a matter of the engines"),
    ):
        with pytest.raises(ConfigError, match=said):
            tiny_run(f"+stages.made={{_target_: {GENERATE}, {fields}}}")
