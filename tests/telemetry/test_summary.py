"""The few lines at a start: they say what runs, they are few whatever the recipe, and a toy is called a toy."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from raylign.config.compose import compose, recipes
from raylign.plan import make_plan
from raylign.telemetry.summary import WIDTH, closing, summary, toy_scale

RECIPES = tuple(name for name in recipes() if name != "sft")  # which has no data of its own


def lines_of(*overrides: str) -> list[str]:
    run = compose(overrides, to_run=False)
    return summary(run, make_plan(run)).splitlines()


@pytest.mark.parametrize("recipe", RECIPES)
def test_few_lines_that_name_every_stage(recipe: str) -> None:
    lines = lines_of(f"recipe={recipe}", "scale=tiny")
    assert len(lines) <= 20 and max(map(len, lines)) <= WIDTH
    run = compose([f"recipe={recipe}", "scale=tiny"])
    more = next((int(line.split()[1]) for line in lines if line.strip().endswith("more stages")), 0)
    for stage in run.stages[: len(run.stages) - more]:
        (line,) = [line for line in lines if line.startswith(f"{stage.name:<10} ")]
        assert stage.cls.__name__ in line and all(role in line for role in stage.roles)
    assert {role.name for role in make_plan(run).roles} <= {word.strip(",;") for word in " ".join(lines).split()}


def test_the_named_choices_are_told_whatever_they_are() -> None:
    text = "\n".join(lines_of("recipe=grpo", "scale=tiny", "objective.dual_clip=3", "rewards.correct.weight=2"))
    for choice in ("std sample", "kl_estimator k3", "kl_coef 0", "aggregation token", "clip_low 0.2", "clip_high 0.2"):
        assert choice in text, choice
    for other in (
        "dual_clip 3",
        "correct x 2 (Verifier)",
        "seed 1",
        "60 steps of 64 prompts x 8 samples",
        "256 rows held out",
    ):
        assert other in text, other
    assert "log_ratio_clamp" not in text, "a default that hides nothing stays in resolved.yaml"


def test_weights_are_told_as_stages_use_them() -> None:
    """`rewards.NAME.weight` is read by stages without weights of their own alone."""
    text = " ".join(" ".join(lines_of("recipe=sci_coe", "scale=tiny")).split())
    assert "correct x 1 in warmup, after and 0 in evolve (Solved)" in text and ", anchored (Anchored)" in text
    genrm = ("recipe=p_genrm", "scale=tiny")
    text = " ".join(
        " ".join(lines_of(*genrm, "stages.cre.weights.process=0.25", "stages.hard.weights={outcome: 3}")).split()
    )
    assert "process x 0.25 (Process)" in text and "outcome x 1 in cre, mine, alone, users, ood and 3 in hard" in text
    assert "process asked by no stage (Process)" in " ".join(lines_of(*genrm, "stages.cre.weights={outcome: 1}"))


def test_many_stages_and_rewards_stay_few_lines() -> None:
    stage = "{_target_: raylign.recipes.stages.evaluate.Evaluate}"
    more = [f"+stages.again{number}={stage}" for number in range(30)]
    more += [f"+rewards.r{n}={{fn: {{_target_: raylign.actors.reward.router.Verifier}}}}" for n in range(30)]
    lines = lines_of("recipe=grpo", "scale=tiny", *more)
    assert len(lines) <= 20 and max(map(len, lines)) <= WIDTH and any("more stages" in line for line in lines)


def test_the_toy_scale_is_never_silent(tmp_path: Path, tiny_model: Path) -> None:
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"question": "1+1?", "answer": "#### 2"}\n' * 3)
    given = ["recipe=grpo", "scale=tiny", "data.holdout=1"]
    for own in ([f"model.path={tiny_model}"], [f"data.path={rows}"], [f"model.path={tiny_model}", f"data.path={rows}"]):
        told = [line for line in lines_of(*given, *own) if line.startswith("warning: TOY SCALE")]
        assert told and all(word.split("=")[0] in told[0] for word in own), own
        assert "answers of 8 tokens" in " ".join(told) and "scale=gpu" in " ".join(told)
        assert max(map(len, told)) <= WIDTH + 5
    assert not any("TOY" in line for line in lines_of(*given)), "our own toy is meant as one"


def test_a_run_of_real_size_is_no_toy() -> None:
    config = compose(["recipe=grpo", "scale=tiny"]).config
    config.model.path = "mine"
    assert toy_scale(config)
    config.scale = "gpu"
    assert not toy_scale(config)


def ended(recipe: str, metrics: dict[str, float]) -> str:
    run: Any = compose([f"recipe={recipe}", "scale=tiny"])
    return closing(run, {"model": "m", "metrics": metrics}, Path("r.html")).splitlines()[0]


def test_a_run_ends_with_its_own_headline() -> None:
    grpo = {"warmup/eval/score": 0.336, "before/eval/score": 0.457, "before/eval/best": 0.9, "after/eval/score": 0.805}
    assert ended("grpo", grpo) == "held-out score: warmup 33.6% -> before 45.7% -> after 80.5%"
    depths = {"before/depth_1/score": 1.0, "before/depth_2/score": 0.25, "after/depth_2/score": 0.5}
    assert ended("composition_rl", depths) == "score of depth_2: before 25.0% -> after 50.0%"
    pairs = {f"preference/{when}/rewards/accuracy": value for when, value in (("before", 0.5), ("eval", 0.75))}
    pairs |= {"preference/rewards/accuracy": 0.1, "reference/before/agreement": 0.2}
    assert ended("hypo", pairs) == "held-out accuracy: preference before 50.0% -> preference 75.0%"
    assert ended("grpo", {"rl/loss": 0.1}) == "model:  m", "absent is not zero"


def test_the_start_is_recorded_and_told() -> None:
    from raylign.telemetry.summary import announce

    run, told, events = compose(["recipe=composition_rl", "scale=tiny"]), list[str](), list[Any]()
    recorder: Any = SimpleNamespace(event=lambda kind, **facts: events.append((kind, facts)))
    progress: Any = SimpleNamespace(message=told.append)
    announce(run, make_plan(run), recorder, progress)
    assert events == [("headline", {"metric": "depth_2/score"})] and told[0].startswith("recipe     composition_rl")
