"""Names of TRL, verl and OpenRLHF, and our own former ones: each leads to a setting that exists."""

from __future__ import annotations

from fnmatch import fnmatchcase

import pytest

from raylign.config.build import part_keys
from raylign.config.compose import compose, compose_with_problems, options, recipes
from raylign.config.other_names import OPENRLHF, OWN, RECIPES, TABLE, TRL, VERL
from raylign.config.schema import Config
from raylign.config.strict import leaf_keys

TINY = ("recipe=grpo", "scale=tiny")


@pytest.fixture(scope="module")
def known() -> set[str]:
    """Every key of every recipe and variant, and the groups."""
    keys = {
        *leaf_keys(Config),
        "variant",
        "scale",
        "recipe",
        "frozen.reference.path",
        "frozen.reference.gpus",
        "environment",
    }
    asked = [[f"recipe={name}"] for name in recipes()] + [["recipe=grpo", f"variant={v}"] for v in options("variant")]
    for overrides in asked:
        run, _ = compose_with_problems([*overrides, "scale=tiny"])
        assert run is not None
        keys |= {key for key, _ in part_keys(run.tree)}
        keys |= {f"{name}.{field}" for name, value in run.tree.items() if isinstance(value, dict) for field in value}
        keys |= {f"rewards.{name}.{field}" for name in run.config.rewards for field in ("fn", "weight")}
    return keys


def test_every_target_exists(known: set[str]) -> None:
    wrong = {
        name: pattern
        for name, here in TABLE.items()
        for pattern in here.keys
        if not any(key.count(".") == pattern.count(".") and fnmatchcase(key, pattern) for key in known)
    }
    assert not wrong
    assert all(here.keys or here.note for here in TABLE.values())


def test_there_are_names_of_everybody() -> None:
    assert min(len(TRL), len(VERL), len(OPENRLHF)) >= 40 and len(TABLE) >= 150
    for name in RECIPES.values():
        _, problems = compose_with_problems([*name.split(), "scale=tiny"])
        assert not problems, name


@pytest.mark.parametrize(
    ("overrides", "key", "meant"),
    [
        (TINY, "learning_rate=1e-6", "learner.optim.lr"),
        (TINY, "beta=0.1", "objective.kl_coef"),
        (("recipe=hypo", "scale=tiny"), "beta=0.1", "stages.preference.objective.beta"),
        (("recipe=hypo", "scale=tiny"), "stages.preference.beta=0.1", "stages.preference.objective.beta"),
        (TINY, "num_generations=8", "stages.rl.group_size"),
        (TINY, "stages.rl.num_generations=8", "stages.rl.group_size"),
        (TINY, "stages.warmup.learning_rate=1", "stages.warmup.optim.lr"),
        (TINY, "rollout.n=8", "stages.rl.group_size"),
        (TINY, "actor_rollout_ref.rollout.n=8", "stages.rl.group_size"),
        (TINY, "actor_rollout_ref.actor.optim.lr=1", "learner.optim.lr"),
        (TINY, "actor_rollout_ref.model.path=m", "model.path"),
        (TINY, "actor_rollout_ref.actor.kl_loss_coef=0", "objective.kl_coef"),
        (TINY, "max_completion_length=8", "rollout.sampling.max_tokens"),
        (TINY, "data.max_response_length=8", "rollout.sampling.max_tokens"),
        (TINY, "per_device_train_batch_size=8", "stages.rl.prompts_per_step"),
        (TINY, "gradient_accumulation_steps=8", "learner.micro_batch_tokens"),
        (TINY, "num_train_epochs=1", "stages.warmup.steps or stages.rl.steps"),
        (TINY, "kl_coef=0", "objective.kl_coef"),
        (TINY, "clip_ratio=0.2", "objective.clip_low"),
        (TINY, "objective.clip_ratio=0.2", "objective.clip_low"),
        (TINY, "model_name_or_path=m", "model.path"),
        (TINY, "algorithm.adv_estimator=grpo", "variant"),
        (TINY, "data.train_files=f", "data.path"),
        (TINY, "trainer.n_gpus_per_node=8", "learner.ranks"),
        (TINY, "packing=true", "always packed"),
        (TINY, "credit.kl_coef=1", "advantage.kl_coef"),
        (TINY, "credit=1", "advantage"),
        (TINY, "scorers.reference.path=m", "frozen.reference.path"),
        (TINY, "world=sokoban", "environment"),
        (TINY, "draws=3", "stages.rl.eval_samples"),
        (TINY, "frozen.scorer_gpus=1", "default_gpus.frozen"),
    ],
)
def test_the_words_of_others_are_understood(overrides: tuple[str, ...], key: str, meant: str) -> None:
    _, problems = compose_with_problems([*overrides, key])
    (problem,) = [problem for problem in problems if problem.key == key.partition("=")[0]]
    assert meant in problem.fix, problem
    assert len(problems) == 1


def test_a_former_section_is_not_taken_for_another() -> None:
    assert set(OWN) >= {"credit", "scorers", "world"}
    _, problems = compose_with_problems([*TINY, "credit._target_=raylign.objectives.advantage.group.RLOO"])
    assert "critic" not in str(problems[0]) and "advantage" in problems[0].fix


def test_names_that_are_ours_are_not_called_foreign() -> None:
    assert compose([*TINY, "advantage.epsilon=1e-4", "objective.kl_coef=0.1"]).config.objective["kl_coef"] == 0.1
    _, problems = compose_with_problems([*TINY, "advantage.epsilon=x"])
    assert problems[0].fix == "set advantage.epsilon to a number"
