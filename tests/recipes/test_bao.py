"""BAO's parts within a run: settings that belong together, figures, the toy's teacher, and other recipes' worlds."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from raylign.actors.environments.games.sokoban import Levels, Sokoban
from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.environments.user_gyms.small import SmallFunctions
from raylign.actors.judge.episodes import ChatEpisodes
from raylign.actors.judge.scripted import Scripted
from raylign.actors.rollout.multi_turn import MultiTurn
from raylign.chat.template import ChatTemplate
from raylign.config.compose import compose
from raylign.config.schema import DataConfig
from raylign.contracts import RolloutTask, Sampling
from raylign.data.prompts import load_prompts
from raylign.data.rows import write_rows
from raylign.errors import ConfigError
from raylign.loop.scoring import logged, scored
from raylign.models.tokenizer import load_tokenizer
from raylign.plan import make_plan
from raylign.recipes.bao import BehaviourInstructions, BehaviourShaper, UserEffort
from raylign.recipes.bao.measures import pareto
from raylign.recipes.bao.toy import teacher
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.recipes.stages.keep import Kept
from raylign.recipes.stages.made_rows import RowWriter
from raylign.recipes.stages.prompt_sets import PromptSets
from raylign.records import Group, Missing, Prompt, StopReason, Trajectory
from raylign.testing import call, group, prompt, trajectory

TINY = ["recipe=bao", "scale=tiny"]
SHAPER = "raylign.recipes.bao.BehaviourShaper"
TURNS = "raylign.objectives.advantage.turn.TurnAdvantage"
CREDITS = "shaper={_target_: raylign.recipes.bao.UserRlCredits}"


# ------------------------------------------------------------------------------------------------------ settings


@pytest.mark.parametrize(
    ("overrides", "said"),
    [
        (
            ["advantage.level=step", "advantage.std=none"],
            r"advantage.level = step: takes scores for advantages.*\n.*=turn",
        ),
        (["shaper.answer=-0.1"], "answer is -0.1, set it to 0 or more"),
        (["shaper.gamma=1.5"], "gamma is 1.5, set it between 0 and 1"),
        (["shaper.user="], "user is empty, so answer=0.2"),
        ([CREDITS], r"advantage.level = turn: would compare.*\n.*set advantage.level=step std=none"),
        (["stages.teach.view.text="], "text is empty"),
        (["stages.after.measures.effort.up_to=0"], "up_to=0"),
        (["environment.fn.turns=0"], "turns is 0"),
        (["environment=turtle_gym", "judges.user=null"], "user: is no judge that this run serves"),
    ],
)
def test_settings_that_do_not_go_together_are_named(overrides: list[str], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        compose([*TINY, *overrides])


@pytest.mark.parametrize(
    "overrides",
    [
        ["advantage.level=trajectory"],
        ["advantage={_target_: raylign.objectives.advantage.group.GRPO}"],
        [CREDITS, "advantage.level=step", "advantage.std=none", "shaper.turns=em", "shaper.trajectory=sum"],
        ["stages.teach=null", "stages.sft=null"],
        ["environment=user_gyms"],
        ["environment=telepathy_gym"],
    ],
)
def test_arms_of_the_digest_compose(overrides: list[str]) -> None:
    compose([*TINY, *overrides])


def test_its_shaper_serves_the_sokoban_of_another_recipe_by_overrides_alone() -> None:
    """No user takes part there, so only thinking that eats the budget is punished."""
    shaped = f"shaper={{_target_: {SHAPER}, user: '', answer: 0, think: 0.1, budget: 5, gamma: 1.0}}"
    advantage = f"advantage={{_target_: {TURNS}, level: turn, std: sample, min_holders: 2}}"
    run = compose(["recipe=tsr", "scale=tiny", "environment=sokoban", shaped, advantage])
    make_plan(run)
    part: Any = run.parts["shaper"].build(weights={"earned": 1.0}, max_tokens=9, tokenizer=None, seed=0)
    game, asked = Sokoban(Sokoban.Config(levels=Levels.open)), prompt(meta={"env_seed": 3})
    game.reset(asked, 0)
    calls = []
    for text in ("<think></think><answer>Up</answer>", "?"):
        seen = game.step(text)
        calls.append(call(text, 2, reward=seen.reward, flags=dict(seen.flags)))
    earned = sum(turn.reward or 0.0 for turn in calls)
    (shaped_group,) = part.score([group(trajectory(*calls, rewards={"earned": earned}))])
    assert shaped_group.scores[0] == pytest.approx(earned - 0.1 * (5 - 1) / 1)
    assert shaped_group.call_scores[0][1] == pytest.approx((calls[1].reward or 0.0) - 0.4)
    assert part.metrics([shaped_group])[0].group["bao/ur"] == 0.0


def test_an_environment_without_the_flags_is_told() -> None:
    silent = trajectory(call("a", reward=1.0), rewards={"task": 1.0})
    with pytest.raises(ValueError, match=r"no flag 'user', which bao reads; there are none; fix: .*shaper.user="):
        shaper().score([group(silent)])


# ------------------------------------------------------------------------------------------------------ figures


def shaper(**settings: Any) -> BehaviourShaper:
    return BehaviourShaper(BehaviourShaper.Config(**settings), {"task": 1.0}, 100)


def episode(acts: str, earned: float | Missing, **fields: Any) -> Trajectory:
    """u involves the user, e does not, - is none; solved where something is earned."""
    solved = not isinstance(earned, Missing) and earned > 0
    calls = []
    for number, act in enumerate(acts):
        flags = {"turn": number, "user": act == "u", "valid": act != "-", "success": solved, "budget": 15, "lost": ""}
        flags |= {"thought": 2, "judge/asked": number + 1.0}
        flags |= {f"judge/{name}": 0.0 for name in ("calls", "hits", "unavailable", "unreadable", "seconds", "tokens")}
        last = number + 1 == len(acts)
        calls.append(call("ab?1", 4, reward=earned if last and not isinstance(earned, Missing) else 0.0, flags=flags))
    return trajectory(*calls, rewards={"task": earned}, **fields)


def test_every_figure_of_the_digest_is_logged() -> None:
    part = shaper(answer=0.2, think=0.1, effort=0.05)
    cut = episode("eu", 0.0, stop=StopReason.LENGTH)
    gone = episode("ee", Missing(reason="no user"))
    (one,) = logged(part, scored(part, [group(episode("euu", 1.0), cut, gone)]))
    figures = one.metrics
    assert figures["bao/score"] == 0.5 and figures["bao/effort"] == 1.5 and figures["bao/turns"] == 2.5
    assert figures["bao/ur"] == pytest.approx(3 / 5) and figures["bao/consecutive"] == pytest.approx(1 / 5)
    assert figures["bao/pass_at_u_1"] == 0.0 and figures["bao/pass_at_u_2"] == figures["bao/pass_at_u_5"] == 0.5
    assert figures["bao/penalty_ask"] == pytest.approx(0.1) and figures["bao/penalty_effort"] == pytest.approx(0.075)
    assert figures["bao/penalty_think"] == pytest.approx(0.1 * 13 / 2 / 2)
    assert figures["bao/budget_exhausted"] == 0.5 and figures["bao/think_tokens"] == 2.0
    assert figures["judge/asked"] == 3 + 2 + 2 and figures["bao/lost"] == 0.0 and figures["reward/task"] == 0.5


def test_involvement_by_gym_leaves_out_what_has_no_reward() -> None:
    turtle = replace(prompt(1), domain="turtle")
    groups = [
        group(episode("eu", 1.0), episode("uuuu", Missing(reason="gone")), prompt=replace(prompt(), domain="function")),
        group(episode("uuu", 0.0), prompt=turtle),
        group(Trajectory(prompt_key="p", sample_index=0, calls=(), seed=0, stop=StopReason.ABORT)),
    ]
    measure = UserEffort(UserEffort.Config())
    numbers = measure.metrics(groups)
    assert numbers["ur"] == pytest.approx(4 / 5) and numbers["function/ur"] == 0.5 and numbers["turtle/ur"] == 1.0
    assert numbers["episodes"] == 2 and numbers["success"] == 0.5
    table = measure.table(groups)
    assert [row["domain"] for row in table] == ["all", "function", "turtle"]
    assert table[0]["pass_at_u_1"] == 0.5
    assert measure.metrics([]) == {} and measure.table([]) == []


def test_the_frontier_holds_what_no_other_policy_beats() -> None:
    points = {"a": (0.9, 0.5), "b": (0.9, 0.3), "c": (0.5, 0.1), "d": (0.4, 0.2), "e": (0.9, 0.3)}
    assert pareto(points) == {"a": False, "b": True, "c": True, "d": False, "e": True}


# ------------------------------------------------------------------------------------------------------ the toy


def prompts(tiny_model: Path) -> tuple[ChatTemplate, tuple[Prompt, ...]]:
    template = ChatTemplate(load_tokenizer(str(tiny_model), False))
    return template, load_prompts(compose(TINY).config.data, template, 1).train


async def taught(asked: tuple[Prompt, ...], samples: int = 2) -> list[Group]:
    model, small = Scripted.of(teacher), f"{SmallFunctions.__module__}.SmallFunctions"
    episodes = ChatEpisodes(model, EnvironmentHost({"_target_": small}), MultiTurn.Config(max_turns=15))
    tasks = [RolloutTask(prompt=one, n=samples, sampling=Sampling(max_tokens=8), run_seed=1) for one in asked]
    by_task: dict[int, list[Trajectory]] = {}
    async for some in episodes.stream(tasks):
        for made in some:
            assert not made.error
            by_task.setdefault(made.task, []).append(made.trajectory)
    return [
        Group(prompt=task.prompt, trajectories=tuple(by_task[number]), scores=(1.0,) * samples)
        for number, task in enumerate(tasks)
    ]


async def test_the_teacher_behaves_where_it_is_told_to(tiny_model: Path) -> None:
    template, asked = prompts(tiny_model)
    assert len(asked) == 256 and len({one.id for one in asked}) == 256
    told = BehaviourInstructions(BehaviourInstructions.Config(), tokenizer=template, seed=0).prompts(asked)
    assert all(
        one.id == before.id and one.messages[0]["role"] == "system" for one, before in zip(told, asked, strict=True)
    )
    measure, figures = UserEffort(UserEffort.Config()), []
    for shown in (tuple(told), asked):
        groups = await taught(shown)
        figures.append(measure.metrics(groups))
    careful, careless = figures
    assert careful["success"] == 1.0 and careless["success"] > 0.9
    assert careful["ur"] < careless["ur"] and careful["pass_at_u_1"] > careless["pass_at_u_1"] + 0.3


async def test_taught_episodes_fit_the_toy_and_show_no_instructions(tiny_model: Path, tmp_path: Path) -> None:
    template, asked = prompts(tiny_model)
    told = BehaviourInstructions(BehaviourInstructions.Config(), tokenizer=template, seed=0).prompts(asked[:40])
    maker = RowWriter(stage="teach", model="m", scored=True, asked={one.id: one for one in asked})
    groups = await taught(tuple(told))
    kept = [row for made in groups for index in range(2) for row in maker.rows(made, Kept(index))]
    write_rows(tmp_path / "rows.jsonl", kept)
    learned = demonstrations(
        load_prompts(DataConfig(path=str(tmp_path / "rows.jsonl"), holdout=0), template, 1).train, template
    )
    assert len(learned) == 80
    limits = compose(TINY).config
    for row in learned:
        text = template.tokenizer.decode(row.token_ids)
        assert len(row.token_ids) <= limits.model.max_context and "precious" not in text
        assert int(row.loss_mask.sum()) <= limits.rollout.strategy["max_episode_tokens"]


def test_instructions_longer_than_the_pupils_context_are_for_another_model(tiny_model: Path) -> None:
    run = compose(TINY)
    sets = PromptSets(ChatTemplate(load_tokenizer(str(tiny_model), False)))
    shown = sets.of(run, run.stages[0]).train
    assert run.stages[0].name == "teach" and len(shown[0].token_ids) > run.config.model.max_context


def test_instructions_come_before_a_system_message(tiny_model: Path) -> None:
    template, asked = prompts(tiny_model)
    spoken = replace(asked[0], messages=({"role": "system", "content": "Be brief."}, *asked[0].messages))
    view = BehaviourInstructions(BehaviourInstructions.Config(text="Behave."), tokenizer=template, seed=0)
    (told,) = view.prompts([spoken])
    assert told.messages[0] == {"role": "system", "content": "Behave.\n\nBe brief."} and len(told.messages) == 2
    assert template.tokenizer.decode(told.token_ids).startswith("<|system|>Behave.\n\nBe brief.<|end|>")
