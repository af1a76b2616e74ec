"""CM2's environment, reward and shaper on dialogues that are played out: real environment, rules as judge and
simulator.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.environments.checklist import ChecklistExaminer
from raylign.actors.environments.dialogue import ToolDialogue
from raylign.actors.judge.flips import Satisfied
from raylign.actors.tools.calls import write_call
from raylign.config.compose import compose
from raylign.config.schema import DataConfig
from raylign.data.prompts import load_prompts
from raylign.environment import Observation
from raylign.errors import ConfigError, DataError
from raylign.loop.scoring import logged, scored
from raylign.models.tokenizer import load_tokenizer
from raylign.objectives.advantage.turn import Level
from raylign.recipes.cm2.records import dialogue_row, recorded_calls
from raylign.recipes.cm2.reward import ChecklistLevels, ChecklistScore, call_scores, gap_metrics
from raylign.recipes.cm2.toy import LookUps, TrueCompletion
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.records import Call, Group, Missing, Prompt, StopReason, Trajectory

TOY = "raylign.recipes.cm2.toy"


def prompt(number: int = 0) -> Prompt:
    row = list(LookUps(LookUps.Config()).rows(number + 1, seed=1))[number]
    return Prompt(
        id=f"p{number}",
        messages=row.messages,
        token_ids=np.zeros(3, np.int32),
        answer=row.answer,
        meta=row.meta,
        tools=row.tools,
    )


def scripted(function: str, **settings: Any) -> dict[str, Any]:
    model = {"_target_": "raylign.actors.judge.scripted.Scripted", "function": f"{TOY}.{function}"}
    return {"model": {**model, "settings": settings}}


def environment(
    judge: dict[str, Any] | None = None, examiner: dict[str, Any] | None = None, **limits: Any
) -> ToolDialogue:
    return ToolDialogue(
        ToolDialogue.Config(
            tools={
                "_target_": "raylign.actors.tools.recorded.RecordedTools",
                "simulator": scripted("simulator"),
            },
            examiner={
                "_target_": "raylign.actors.environments.checklist.ChecklistExaminer",
                "judge": judge or scripted("rule_judge"),
                **(examiner or {}),
            },
            **limits,
        )
    )


def right(asked: Prompt, turn: int) -> tuple[str, str]:
    """The call and the reply that satisfy a turn."""
    recorded = asked.meta["recorded"][turn]
    call = json.dumps({"name": recorded["name"], "arguments": recorded["arguments"]})
    return call, str(json.loads(recorded["result"])["v"])


async def play(asked: Prompt, said: list[str], index: int = 0, **settings: Any) -> tuple[Trajectory, list[Observation]]:
    """A rollout of these messages, as far as the environment lets it go."""
    env = environment(**settings)
    env.reset(asked, seed=index)
    seen: list[Observation] = []
    turns: list[Call] = []
    for text in said:
        seen.append(await env.step(text))
        ids = np.ones(2, np.int32)
        turns.append(
            Call(
                context_ids=np.zeros(1, np.int32),
                token_ids=ids,
                logprobs=-ids.astype(np.float32),
                versions=ids,
                stop=StopReason.EOS,
                text=text,
                flags=dict(seen[-1].flags),
            )
        )
        if seen[-1].done:
            break
    found = Trajectory(prompt_key=asked.key, sample_index=index, calls=tuple(turns), seed=0, stop=StopReason.DONE)
    return found, seen


async def test_a_right_dialogue_goes_to_its_end() -> None:
    asked = prompt()
    played, seen = await play(asked, [*right(asked, 0), *right(asked, 1)])
    assert [call.flags["turn"] for call in played.calls] == [0, 0, 1, 1]
    assert [call.flags["step"] for call in played.calls] == [0, 1, 0, 1]
    assert seen[0].messages == ({"role": "tool", "content": asked.meta["recorded"][0]["result"]},)
    assert seen[1].messages == ({"role": "user", "content": asked.meta["users"][0]},)
    assert seen[3].done and seen[3].flags["stop"] == "completed" and seen[3].flags["reached"] == 2
    assert played.calls[0].flags["labels"] == ({"asked": True, "found": True},)  # "said" could not count yet
    assert played.calls[1].flags["labels"] == ({"said": True},)  # satisfied items are not asked again
    assert ChecklistScore(ChecklistScore.Config()).score(asked, [played])[0].score == pytest.approx(1.0)
    np.testing.assert_allclose(call_scores(asked, played, Satisfied.gated), [0.6, 0.4, 0.6, 0.4])
    assert seen[3].flags["tool_recorded"] == 2 and seen[3].flags["tool_simulated"] == 0


async def test_a_failed_must_pass_item_ends_the_dialogue_and_the_missing_turn_pays_nothing() -> None:
    asked = prompt()
    call, reply = right(asked, 0)
    played, seen = await play(asked, [call, str((int(reply) + 1) % 10), *right(asked, 1)])
    assert seen[-1].flags["stop"] == "gate" and len(played.calls) == 2
    value = ChecklistScore(ChecklistScore.Config()).score(asked, [played])[0]
    assert value.score == pytest.approx(0.6 / 2)
    np.testing.assert_allclose(value.channels["calls"], [0.3, 0.0])
    free, seen = await play(asked, [call, "x", *right(asked, 1)], examiner={"gate": False})
    assert seen[-1].flags["stop"] == "completed" and len(free.calls) == 4


async def test_vector_4_one_of_three_turns() -> None:
    row = next(iter(LookUps(LookUps.Config(turns=3)).rows(1, seed=2)))
    asked = replace(prompt(), meta=row.meta, messages=row.messages)
    played, _ = await play(asked, [*right(asked, 0), "nonsense"])
    assert ChecklistScore(ChecklistScore.Config()).score(asked, [played])[0].score == pytest.approx(1 / 3)


@pytest.mark.parametrize(
    ("text", "stop"),
    [
        ('<tool_call>{"name": "a", </tool_call>', "unparsable"),
        (write_call("c", {"k": 1}), "unknown_tool"),
        (write_call("a", {"k": "one"}), "schema"),
        (write_call("a", {"k": 1, "j": 2}), "schema"),
    ],
)
async def test_calls_that_cannot_be_carried_out_end_the_dialogue_unjudged_by_calls(text: str, stop: str) -> None:
    asked = prompt()
    played, seen = await play(asked, [text])
    flags = seen[0].flags
    assert seen[0].done and flags["stop"] == stop and flags[f"stop_{stop}"] == 1.0
    assert flags["labels"] == ({"asked": False, "found": False},)
    assert flags["judge/asked"] == 0  # both look at calls and results, which are taken back by the error
    assert ChecklistScore(ChecklistScore.Config()).score(asked, [played])[0].score == 0


async def test_faults_may_be_answered_instead() -> None:
    asked = prompt()
    _, seen = await play(asked, [write_call("c", {}), *right(asked, 0)], stop_on_fault=False)
    assert "error_tool_call" in seen[0].messages[0]["content"] and len(seen) == 3
    assert seen[2].flags["turn"] == 0 and seen[2].flags["step"] == 2


async def test_limits_on_steps_and_turns() -> None:
    asked = prompt()
    call, reply = right(asked, 0)
    _, seen = await play(asked, [call] * 5, max_steps=3)
    assert len(seen) == 3 and seen[-1].flags["stop"] == "steps"
    _, seen = await play(asked, [call, reply, *right(asked, 1)], max_turns=1)
    assert len(seen) == 2 and seen[-1].flags["stop"] == "turns"


async def test_unrecorded_calls_are_simulated_and_parallel_calls_are_one_step() -> None:
    asked = prompt()
    call, _ = right(asked, 0)
    recorded = json.loads(call)
    other = (recorded["arguments"]["k"] + 1) % 100
    text = write_call(recorded["name"], recorded["arguments"]) + write_call(recorded["name"], {"k": other})
    played, seen = await play(asked, [text])
    assert [message["content"] for message in seen[0].messages] == [asked.meta["recorded"][0]["result"], '{"v": 0}']
    assert seen[0].flags["tool_simulated"] == 1 and seen[0].flags["tool_recorded"] == 1
    assert played.calls[0].flags["labels"] == ({"asked": True, "found": True},)


async def test_a_judge_that_fails_leaves_the_reward_missing() -> None:
    asked = prompt()
    played, seen = await play(asked, [right(asked, 0)[0]], judge=scripted("rule_judge", absent=1.0))
    assert seen[0].done and seen[0].flags["stop"] == "lost" and "JudgeUnavailable" in seen[0].flags["lost"]
    assert seen[0].flags["judge/unavailable"] == 2
    with pytest.raises(ValueError, match="JudgeUnavailable"):
        ChecklistScore(ChecklistScore.Config()).score(asked, [played])


async def test_an_episode_goes_on_from_its_snapshot() -> None:
    asked = prompt()
    env = environment()
    env.reset(asked, 0)
    call, reply = right(asked, 0)
    await env.step(call)
    state = env.snapshot()
    first = await env.step("wrong")
    other = environment()
    other.restore(state)
    second = await other.step(reply)
    assert first.flags["stop"] == "gate" and second.flags["stop"] == ""
    assert state.copy().steps == state.steps and len(state.steps) == 1  # the snapshot did not move


async def test_flips_are_of_the_episode_only_where_wanted() -> None:
    asked = prompt()
    call = right(asked, 0)[0]
    judge = scripted("rule_judge", flip=0.5)

    async def labels(independent: bool) -> set[str]:
        played = [await play(asked, [call], i, judge=judge, examiner={"independent": independent}) for i in range(12)]
        return {str(one.calls[0].flags["labels"]) for one, _ in played}

    assert len(await labels(False)) == 1
    assert len(await labels(True)) > 1


@pytest.mark.parametrize("mode", ["literal", "code"])
async def test_other_modes_ask_about_everything_open(mode: str) -> None:
    asked = prompt()
    played, _ = await play(asked, [right(asked, 0)[0]], examiner={"satisfied": Satisfied[mode]})
    assert set(played.calls[0].flags["labels"][0]) == {"asked", "found", "said"}


# ------------------------------------------------------------------------------------------------------- shaping


async def group(*scripts: str) -> Group:
    """Rollouts of one prompt: r right, g wrong reply in turn 1, G wrong reply in turn 2, w wrong cell, l lost."""
    asked = prompt()
    (call, reply), second = right(asked, 0), right(asked, 1)
    wrong = json.dumps({"name": json.loads(call)["name"], "arguments": {"k": 777}})
    texts = {
        "r": [call, reply, *second],
        "g": [call, "x"],
        "G": [call, reply, second[0], "x"],
        "w": [wrong, "0"],
        "l": [call],
    }
    trajectories = []
    score = ChecklistScore(ChecklistScore.Config())
    for index, kind in enumerate(scripts):
        judge = scripted("rule_judge", absent=1.0) if kind == "l" else None
        played, _ = await play(asked, texts[kind], index, judge=judge)
        rewards = {"truth": TrueCompletion(TrueCompletion.Config()).score(asked, [played])[0]}
        try:
            rewards["checklist"] = score.score(asked, [played])[0]
        except ValueError as error:
            rewards["checklist"] = Missing(reason=str(error))  # type: ignore[assignment]
        trajectories.append(replace(played, rewards=rewards))
    return Group(prompt=asked, trajectories=tuple(trajectories))


def shaper(level: Level, **settings: Any) -> ChecklistLevels:
    config = ChecklistLevels.Config(level=level, **settings)
    return ChecklistLevels(config, weights={"checklist": 1.0, "truth": 0.0}, max_tokens=100)


def shape(shaper: ChecklistLevels, groups: list[Group]) -> list[Group]:
    return logged(shaper, scored(shaper, groups))


async def test_shaping_by_trajectory_and_turn() -> None:
    found = shape(shaper(Level.trajectory, truth="truth"), [await group("r", "g", "G", "w", "l")])[0]
    assert found.scores[:4] == pytest.approx((1.0, 0.3, 0.8, 0.0)) and found.scores[4] is None
    assert found.call_scores[4] is None
    np.testing.assert_allclose(found.call_scores[2], [0.6, 0.4, 0.6, 0.0], atol=1e-6)
    metrics = found.metrics
    assert metrics["cm2/dropped"] == pytest.approx(0.2)
    assert metrics["cm2/reached"] == pytest.approx((2 + 1 + 2 + 1) / 8)
    assert metrics["cm2/reached_turn_2"] == pytest.approx(0.5)
    assert metrics["cm2/gate_stops"] == pytest.approx(3 / 5)
    assert metrics["cm2/pass/assistant.tool_calls"] == pytest.approx(5 / 6)  # of six turns that were reached
    assert metrics["cm2/pass/assistant.content.user_visible_reply"] == pytest.approx(3 / 6)
    assert metrics["cm2/judge_gap"] == pytest.approx(0.0, abs=1e-6) and metrics["cm2/judge_gap_alarm"] == 0
    assert metrics["judge/failures"] > 0 and metrics["tools/recorded"] > metrics["tools/simulated"] > 0


async def test_shaping_by_step_gives_ready_advantages() -> None:
    """Call 1 has five holders with a verdict, turn 2 has two: only the first teaches."""
    found = shape(shaper(Level.step), [await group("r", "g", "G", "w", "w", "l")])[0]
    asked, obtained, said = 3 / 5, 3 / 5, 2 / 5  # shares of rollouts that ever satisfied each item in turn 1
    first = (0.3 * (1 - asked) + 0.3 * (1 - obtained)) / 0.6
    np.testing.assert_allclose(found.call_scores[0], [first, 1 - said, 0, 0], atol=1e-6)
    np.testing.assert_allclose(found.call_scores[1], [first, 0 - said], atol=1e-6)
    second = (-0.3 * asked - 0.3 * obtained) / 0.6  # "said" cannot be earned without "found"
    np.testing.assert_allclose(found.call_scores[3], [second, second], atol=1e-6)
    none = shape(shaper(Level.step, min_holders=6), [await group("r", "g", "G", "w", "w", "l")])[0]
    assert not any(scores.any() for scores in none.call_scores if scores is not None)


def test_a_judge_who_sees_more_than_there_is_raises_the_alarm() -> None:
    assert gap_metrics([1.0, 1.0], [0.9, 0.9])["cm2/judge_gap_alarm"] == 1.0
    assert gap_metrics([1.0, 0.9], [0.95, 0.9])["cm2/judge_gap_alarm"] == 0.0
    assert gap_metrics([0.5], [1.0])["cm2/judge_gap_alarm"] == 0.0  # a severe judge is no alarm
    assert gap_metrics([], []) == {}


async def test_variants_of_a_checklist_are_averaged_and_vote() -> None:
    asked = prompt()
    lists = asked.meta["checklists"]
    changed = json.loads(json.dumps(lists[0]))
    for item in changed[0]:
        if item["id"] == "said":
            item["pass_condition"] = "reply z"  # a variant that this reply does not satisfy
    two = replace(asked, meta={**asked.meta, "checklists": [lists[0], changed]})
    played, seen = await play(two, [*right(two, 0)])
    assert seen[-1].flags["stop"] == ""  # one of two is not more than half
    np.testing.assert_allclose(call_scores(two, played, Satisfied.gated), [0.6, 0.2])
    three = replace(asked, meta={**asked.meta, "checklists": [lists[0], changed, changed]})
    _, seen = await play(three, [*right(three, 0)])
    assert seen[-1].flags["stop"] == "gate"


# ------------------------------------------------------------------------------------------------ records, config


def test_records_of_annotated_dialogues() -> None:
    asked = prompt()
    assert [call["name"] for call in asked.meta["recorded"]] == [text[0] for text in _users(asked)]
    assert len(asked.tools) == 2 and asked.messages[-1]["content"] == _users(asked)[0]
    with pytest.raises(DataError, match="1 calls and gets 0 results"):
        recorded_calls([{"role": "assistant", "tool_calls": [{"name": "a", "arguments": {}}]}], "row 1")
    with pytest.raises(DataError, match="row 2: no column checklist_list"):
        dialogue_row({"messages": [{"role": "user", "content": "?"}], "tools": []}, "row 2")
    with pytest.raises(DataError, match="2 user messages, but checklists for 1 turns"):
        messages = [{"role": "user", "content": "?"}, {"role": "assistant", "content": "!"}] * 2
        lists = [asked.meta["checklists"][0][:1]]
        dialogue_row({"messages": messages, "tools": [], "checklist_list": lists}, "row 3")


def _users(asked: Prompt) -> list[str]:
    return [asked.messages[-1]["content"], *asked.meta["users"]]


SETTINGS = ["recipe=cm2", "scale=tiny"]


def test_level_and_mode_are_said_once() -> None:
    found = compose([*SETTINGS, "advantage.level=step", "environment.fn.examiner.satisfied=literal"])
    assert found.tree["shaper"]["level"] == "step"
    assert found.tree["rewards"]["checklist"]["fn"]["satisfied"] == "literal"


@pytest.mark.parametrize(
    ("override", "named"),
    [
        ("shaper.level=step", "advantage.level"),
        ("rewards.checklist.fn.satisfied=code", "rewards.checklist.fn.satisfied"),
        ("environment.fn.examiner.judge.tires=3", "did you mean tries"),
        ("environment.fn.tools.simulator.model.functoin=x", "did you mean function"),
        ("environment.fn.examiner.judge.model={_target_:raylign.actors.judge.served.Served,name:nobody}", "nobody"),
        ("+judges.judge.workers=0", "judges.judge.workers"),
        ("+judges.judge.path=@after_all", "names no stage"),
    ],
)
def test_settings_that_do_not_go_together_are_named(override: str, named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        compose([*SETTINGS, override])


def test_examiner_needs_a_judge() -> None:
    with pytest.raises(ValueError, match="judge is empty"):
        ChecklistExaminer.Config()


def test_prompts_of_a_data_set_are_rendered_with_their_own_tools(tiny_model: Path) -> None:
    tokenizer = load_tokenizer(str(tiny_model), False)
    config = DataConfig(
        generator={"_target_": "raylign.recipes.cm2.toy.LookUps"}, size=40, holdout=4, max_prompt_tokens=64
    )
    found = load_prompts(config, tokenizer, 1)
    first = found.train[0]
    assert tokenizer.decode(first.token_ids.tolist()).startswith("<|tool|>a(k)b(k)<|end|><|user|>")
    assert len({one.id for one in (*found.train, *found.holdout)}) == 40  # they begin alike and ask different things
    assert len(demonstrations(found.train, tokenizer)) == 36
