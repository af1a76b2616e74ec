"""One's own model or data never get the toy's numbers without having asked for them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from raylign.config.compose import compose, compose_with_problems, layered
from raylign.errors import ConfigError

OWN = (
    "data.path=rows.jsonl",
    "model.path=/models/mine",
    "data.eval_path=rows.jsonl",
    "data.task=spell_backward",
    "data.generator={_target_: raylign.recipes.hypo.LetterPairs}",
    "data.generator.path=dialogues.jsonl",
    "environment.fn={_target_: raylign.actors.environments.sokoban.Sokoban}",
)


@pytest.mark.parametrize("own", OWN)
def test_ones_own_without_a_scale_is_one_line(own: str) -> None:
    _, problems = compose_with_problems(["recipe=grpo", own])
    (problem,) = problems
    assert (problem.key, problem.value) == ("scale", "absent") and own.split("=")[0] in problem.why
    assert "8 tokens a response" in problem.why and "2000 steps of warmup" in problem.why
    assert "scale=tiny" in problem.fix and "scale=gpu" in problem.fix and "\n" not in str(problem.why)


def test_a_file_of_the_users_own_recipe_counts_too(tmp_path: Path) -> None:
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "mine.yaml").write_text("# @package _global_\ndata: {path: rows.jsonl}\n")
    with pytest.raises(ConfigError, match="scale = absent"):
        layered(["recipe=mine"], str(tmp_path))
    assert layered(["recipe=mine", "scale=tiny"], str(tmp_path)).config.data.path == "rows.jsonl"


def test_the_toy_itself_needs_no_scale_and_typos_are_told_beside() -> None:
    assert compose(["recipe=grpo", "seed=3", "stages.rl.steps=5"]).config.scale == "tiny"
    _, problems = compose_with_problems(["recipe=grpo", "data.path=x.jsonl", "sed=1"])
    assert [problem.key for problem in problems] == ["scale", "sed"]


def test_how_many_rows_the_toy_makes_says_nothing_about_a_file(tmp_path: Path) -> None:
    path = tmp_path / "pairs.jsonl"
    path.write_text(json.dumps({"prompt": "a", "chosen": "b", "rejected": "c"}) + "\n")
    base = ["recipe=hypo", "scale=tiny"]
    assert (layered(base).config.data.size, layered(base).config.data.holdout) == (3000, 1000)
    own = layered([*base, f"data.path={path}"]).config.data
    assert (own.size, own.holdout) == (0, None)
    told = layered([*base, f"data.path={path}", "data.holdout=7"]).config.data
    assert told.holdout == 7
