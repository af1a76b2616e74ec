"""Lengths that do not fit a model are told once, and what is advised fits."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from raylign.config.compose import compose_with_problems
from raylign.config.schema import TinyModel
from raylign.errors import Problem
from raylign.models.tiny import build_tiny_model

ADVICE = re.compile(r"(?<![\w.])([a-z_]+(?:\.\w+)+)=(\d+)")
LENGTHS = (
    (),
    ("model.max_context=512",),
    ("model.max_context=3072",),
    ("data.max_prompt_tokens=400",),
    ("rollout.sampling.max_tokens=100",),
    ("data.max_prompt_tokens=2000", "rollout.sampling.max_tokens=2000", "model.max_context=600"),
    ("data.max_prompt_tokens=500", "model.max_context=512"),
)


def model(context: int) -> str:
    shape = TinyModel(hidden_size=32, layers=1, heads=2, kv_heads=1, intermediate_size=64, context=context)
    return str(build_tiny_model(shape))


def about_lengths(problems: list[Problem]) -> list[Problem]:
    words = ("max_context", "max_tokens", "max_prompt_tokens", "micro_batch_tokens")
    return [problem for problem in problems if problem.key.endswith(words)]


@pytest.mark.parametrize("context", [64, 512, 2048])
@pytest.mark.parametrize("recipe", ["grpo", "grpo variant=dapo", "hypo", "arlcp", "composition_rl", "tsr", "sft"])
def test_the_advice_fits(recipe: str, context: int) -> None:
    base = [*f"recipe={recipe}".split(), "scale=gpu", f"model.path={model(context)}"]
    for lengths in LENGTHS:
        overrides, rounds = [*base, *lengths], 0
        while problems := about_lengths(compose_with_problems(overrides, to_run=False)[1]):
            rounds += 1
            assert rounds <= 2, (overrides, [str(problem) for problem in problems])
            advised = dict(pair for problem in problems for pair in ADVICE.findall(problem.fix.partition(", or")[0]))
            assert advised, [str(problem) for problem in problems]
            kept = [word for word in overrides if word.partition("=")[0] not in advised]
            overrides = [*kept, *(f"{key}={value}" for key, value in advised.items())]


def test_the_numbers_that_fit_stand_in_one_message() -> None:
    base = ["recipe=hypo", "scale=gpu", f"model.path={model(512)}"]
    problems = about_lengths(compose_with_problems(base, to_run=False)[1])
    assert len(problems) == 1 and "512 positions" in problems[0].why
    for number in ("model.max_context=512", "data.max_prompt_tokens=256", "rollout.sampling.max_tokens=256"):
        assert number in problems[0].fix
    assert "stages.preference.max_tokens=512" in problems[0].fix


def test_what_is_short_already_stays(tmp_path: Path) -> None:
    base = ["recipe=grpo", "scale=gpu", f"model.path={model(512)}", "data.max_prompt_tokens=100"]
    (problem,) = about_lengths(compose_with_problems(base, to_run=False)[1])
    assert "rollout.sampling.max_tokens=412" in problem.fix and "data.max_prompt_tokens" not in problem.fix
