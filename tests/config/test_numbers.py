"""Numbers that cannot be meant, in whatever section or part: one line with the field, its value and a fix."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import pytest

from raylign.config.build import part_config
from raylign.config.compose import compose
from raylign.config.culprit import culprit
from raylign.config.numbers import WHOLE, number_faults, unbounded
from raylign.errors import ConfigError, Problem

GRPO, HYPO = ("recipe=grpo", "scale=tiny"), ("recipe=hypo", "scale=tiny")
TRUNCATE, MULTI = "objective.mismatch.mode=truncate", "raylign.actors.rollout.multi_turn.MultiTurn"
WRONG = [  # overrides, key, value as shown, a word of the reason or the fix
    (GRPO, ("advantage.kl_coef=inf",), "advantage.kl_coef", "inf", "infinite"),
    (GRPO, ("advantage.kl_coef=1e400",), "advantage.kl_coef", "inf", "infinite"),
    (GRPO, ("advantage.kl_coef='-inf'",), "advantage.kl_coef", "-inf", "infinite"),
    (GRPO, ("advantage.epsilon=inf",), "advantage.epsilon", "inf", "infinite"),
    (GRPO, ("advantage.epsilon=1e-300",), "advantage.epsilon", "1e-300", "is 0 in float32"),
    (GRPO, ("advantage.kl_coef=-1",), "advantage.kl_coef", "-1.0", "0 or more"),
    (GRPO, ("objective.kl_coef=1e300",), "objective.kl_coef", "1e+300", "too large for float32"),
    (GRPO, (TRUNCATE, "objective.mismatch.high=inf"), "objective.mismatch.high", "inf", "infinite"),
    (GRPO, (TRUNCATE, "objective.mismatch.high=-2"), "objective.mismatch.high", "-2.0", "0 <= low < high"),
    (GRPO, ("shaper.overlong_penalty=inf",), "shaper.overlong_penalty", "inf", "infinite"),
    (GRPO, ("shaper.overlong_buffer=-1",), "shaper.overlong_buffer", "-1", "negative"),
    (GRPO, ("default_gpus.frozen=inf",), "default_gpus.frozen", "inf", "infinite"),
    (GRPO, ("rewards.correct.weight=inf",), "rewards.correct.weight", "inf", "infinite"),
    (GRPO, ("rewards.correct.fn.gsm8k.tolerance=inf",), "rewards.correct.fn.gsm8k.tolerance", "inf", "infinite"),
    (GRPO, ("rewards.correct.fn.gsm8k.tolerance=-1",), "rewards.correct.fn.gsm8k.tolerance", "-1.0", "0 or more"),
    (GRPO, ("rewards.correct.fn.boxed_math.longest=0",), "rewards.correct.fn.boxed_math.longest", "0", "1 or more"),
    (GRPO, ("data.task_args.min_terms=inf",), "data.task_args.min_terms", "inf", "infinite"),
    (GRPO, ("seed=1" + "0" * 400,), "seed", "1" + "0" * 76 + "...", "counted"),
    (GRPO, ("alarms.kl.window=99999999999999999999",), "alarms.kl.window", "99999999999999999999", "counted"),
    (GRPO, ("stages.rl.steps=99999999999999999999",), "stages.rl.steps", "99999999999999999999", "counted"),
    (GRPO, ("stages.rl.eval_prompts=-1",), "stages.rl.eval_prompts", "-1", "negative"),
    (GRPO, ("stages.before.prompts=-3",), "stages.before.prompts", "-3", "negative"),
    (GRPO, ("stages.before.samples=0",), "stages.before.samples", "0", "at least 1"),
    (GRPO, ("stages.rl.epochs=0",), "stages.rl.epochs", "0", "above 0"),
    (GRPO, ("stages.warmup.batch_size=0",), "stages.warmup.batch_size", "0", "at least 1"),
    (GRPO, ("stages.warmup.stop_at=-3",), "stages.warmup.stop_at", "-3.0", "pass rate"),
    (GRPO, ("stages.warmup.stop_at=50",), "stages.warmup.stop_at", "50.0", "pass rate"),
    (GRPO, ("stages.warmup.optim.lr=inf",), "stages.warmup.optim.lr", "inf", "infinite"),
    (GRPO, ("stages.warmup.optim.lr=-1",), "stages.warmup.optim.lr", "-1.0", "positive"),
    (GRPO, ("stages.warmup.optim.betas=[2,3]",), "stages.warmup.optim.betas", "[2.0, 3.0]", "[0, 1)"),
    (GRPO, ("learner.optim.lr=10",), "learner.optim.lr", "10.0", "no model survives"),
    (GRPO, ("learner.optim.lr=1e-300",), "learner.optim.lr", "1e-300", "is 0 in float32"),
    (GRPO, ("learner.optim.weight_decay=7",), "learner.optim.weight_decay", "7.0", "1 or less"),
    (GRPO, ("learner.optim.warmup_steps=1000000",), "learner.optim.warmup_steps", "1000000", "below 1%"),
    (GRPO, ("stages.warmup.optim.warmup_steps=1000000",), "stages.warmup.optim.warmup_steps", "1000000", "below 1%"),
    (GRPO, ("rollout.sampling.temperature=1e-3",), "rollout.sampling.temperature", "0.001", "0.01"),
    (GRPO, ("rollout.sampling.temperature=1e9",), "rollout.sampling.temperature", "1000000000.0", "100"),
    (GRPO, ("rollout.sampling.stop=['']",), "rollout.sampling.stop", "['']", "empty text"),
    (
        GRPO,
        ("stages.rl.eval_sampling={temperature: -1, max_tokens: 8}",),
        "stages.rl.eval_sampling.temperature",
        "-1.0",
        "0.01",
    ),
    (
        GRPO,
        ("stages.rl.eval_sampling={top_p: 7, max_tokens: 8}",),
        "stages.rl.eval_sampling.top_p",
        "7.0",
        "top_p <= 1",
    ),
    (
        GRPO,
        ("stages.rl.eval_sampling={max_tokens: 1000}",),
        "stages.rl.eval_sampling.max_tokens",
        "1000",
        "model.max_context",
    ),
    (GRPO, (f"rollout.strategy={{_target_: {MULTI}, max_turns: 0}}",), "rollout.strategy.max_turns", "0", "1 or more"),
    (GRPO, ("run.deadline_s=1e300",), "run.deadline_s", "1e+300", "clock"),
    (GRPO, ("run.deadline_s=0.001",), "run.deadline_s", "0.001", "before its engines"),
    (GRPO, ("run.stall_s=1",), "run.stall_s", "1.0", "before its engines"),
    (GRPO, ("data.max_prompt_tokens=1",), "data.max_prompt_tokens", "1", "every prompt"),
    (GRPO, ("data.size=0",), "data.size", "0", "data.size=4096"),
    (GRPO, ("data.size=100000000000",), "data.size", "100000000000", "10000000"),
    (GRPO, ("data.task_template=solve it",), "data.task_template", "solve it", "{question}"),
    (GRPO, ("model.tiny.init_std=1e30",), "model.tiny.init_std", "1e+30", "logits"),
    (GRPO, ("model.tiny.hidden_size=1000000000",), "model.tiny.hidden_size", "1000000000", "GB to learn"),
    (GRPO, ("model.tiny.layers=100000000",), "model.tiny.layers", "100000000", "GB to learn"),
    (GRPO, ("rewards.correct.workers=1000000",), "rewards.correct.workers", "1000000", "GB of memory"),
    (GRPO, ("rewards.correct.weight=0",), "rewards.correct.weight", "0", "nothing would be learned"),
    (GRPO, ("rewards.correct.retries=1000000",), "rewards.correct.retries", "1000000", "for ever"),
    (GRPO, ("rollout.max_restarts=1000000000",), "rollout.max_restarts", "1000000000", "for ever"),
    (GRPO, ("learner.max_restarts=1000000000",), "learner.max_restarts", "1000000000", "for ever"),
    (GRPO, ("stages.rl.sampling_rounds=99999999",), "stages.rl.sampling_rounds", "99999999", "for ever"),
    (GRPO, ("rollout.threads=100000",), "rollout.threads", "100000", "threads"),
    (GRPO, ("rollout.max_sequences=100000000",), "rollout.max_sequences", "100000000", "65536"),
    (GRPO, ("cluster.object_store_mb=99999999",), "cluster.object_store_mb", "99999999", "GB of memory"),
    (GRPO, ("objective.kl_coef=0.1", "frozen.reference.stream=typo"), "frozen", "typo", "ref_logprob"),
    ((*GRPO, "variant=ppo"), ("critic.warmup_steps=60",), "critic.warmup_steps", "60", "below 60"),
    ((*GRPO, "variant=ppo"), ("advantage.lam=2",), "advantage.lam", "2.0", "between 0 and 1"),
    (HYPO, ("stages.preference.epochs=0",), "stages.preference.epochs", "0.0", "above 0"),
    (HYPO, ("stages.preference.objective.beta=inf",), "stages.preference.objective.beta", "inf", "infinite"),
    (HYPO, ("stages.preference.objective.gamma=nan",), "stages.preference.objective.gamma", "nan", "no number"),
]


def problems_of(overrides: tuple[str, ...]) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        compose(overrides)
    return list(caught.value.problems)


@pytest.mark.parametrize(("base", "wrong", "key", "value", "word"), WRONG, ids=lambda value: str(value)[:60])
def test_a_number_that_cannot_be_meant(
    base: tuple[str, ...], wrong: tuple[str, ...], key: str, value: str, word: str
) -> None:
    problems = problems_of((*base, *wrong))
    problem = next(problem for problem in problems if problem.key == key)
    assert word in f"{problem.why} {problem.fix}" and problem.value == value and problem.fix
    assert len(problems) <= 2 and "\n" not in str(problem.why)


def test_infinity_where_a_field_says_that_it_means_something() -> None:
    compose([*HYPO, "stages.preference.objective.gamma=-inf"])  # HyPO without a floor
    with pytest.raises(ConfigError, match="gamma=inf must be a number"):
        compose([*HYPO, "stages.preference.objective.gamma=inf"])


@dataclass
class Mine:
    """A user's settings."""

    offset: int = 3  # a user's whole numbers may be negative
    bound: float = unbounded(0.0)
    shares: list[float] = field(default_factory=list)
    inner: dict[str, Any] = field(default_factory=dict)
    wait_s: float = 1.0

    def __post_init__(self) -> None:
        if self.offset == 7:
            raise ValueError("offset cannot be 7")
        if self.offset == 8:
            raise ValueError("no good")


class Part:
    """A part of a user."""

    Config = Mine


def made(**fields: Any) -> Mine:
    target = f"{__name__}.Part"
    config: Mine = part_config({"_target_": target, **fields}, "mine")[1]
    return config


def test_parts_of_a_user_are_held_to_the_same() -> None:
    assert made(offset=-5).offset == -5 and made(bound=math.inf).bound == math.inf
    wrong = {
        "bound": math.nan,
        "shares": [0.5, math.inf],
        "wait_s": 1e12,
        "offset": WHOLE + 1,
    }
    for name, value in wrong.items():
        with pytest.raises(ConfigError) as caught:
            made(**{name: value})
        assert [problem.key for problem in caught.value.problems] == [f"mine.{name}"]
    with pytest.raises(ConfigError, match=r"mine\.inner\.deep\.er = nan"):
        made(inner={"deep": {"er": math.nan}})
    own = {"_target_": "a.part.of.its.own", "gamma": math.inf}
    assert not list(number_faults(Mine, {"inner": own})), "it is checked where its class is known"


def test_an_error_names_the_field_and_not_the_whole_part() -> None:
    for offset, key, value in ((7, "mine.offset", "7"), (8, "mine.offset", "8")):
        with pytest.raises(ConfigError) as caught:
            made(offset=offset, inner={"long": "x" * 500})
        (problem,) = caught.value.problems
        assert (
            problem.key in (key, "mine")
            and len(problem.value) <= 80
            and (problem.key == "mine" or problem.value == value)
        )
    assert culprit("set a or b", {"a": 1, "b": 2}, {"a": 1, "b": 1}) == ("b", "2"), "what was changed, not what was not"
    assert culprit("set a or b", {"a": 1, "b": 1}, {"a": 1, "b": 1}) == ("a", "1")
    assert culprit("no", {"a": 3, "b": 1}, {"a": 1, "b": 1}) == ("a", "3")
    assert culprit("no", {"a": 3, "b": {"c": 4}}, {"a": 1, "b": {"c": 1}}) == ("", "a=3, b.c=4")
    assert culprit("high is low", {"b": {"high": 4, "highest": 5}}, {}) == ("b.high", "4")
