"""The recipe's settings are the paper's, its toy task is what it says, and its stage hands out whole pairs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from raylign.batch import Batch
from raylign.config.compose import compose, compose_with_problems, layered
from raylign.config.schema import Schedule
from raylign.data.pairs import Pair, rows_of_pairs
from raylign.objectives.loss.margin import ReferenceMargin
from raylign.objectives.loss.pairs import SequenceLogprob
from raylign.objectives.loss.preference import PreferenceLoss
from raylign.plan import make_plan
from raylign.recipes.hypo import LETTERS, LetterPairs
from raylign.recipes.stages.on_pairs import pair_batches
from raylign.recipes.stages.preference import Preference
from raylign.records import Prompt

TINY = ["recipe=hypo", "scale=tiny"]


def stage_of(overrides: list[str]) -> Preference.Config:
    from raylign.config.build import part_config

    config = layered(overrides).config
    return part_config(config.stages["preference"], "stages.preference")[1]


@pytest.mark.parametrize("scale", ["gpu", "node", "cluster"])
def test_the_defaults_at_scale_are_the_released_recipe(scale: str) -> None:
    stage = stage_of(["recipe=hypo", f"scale={scale}"])
    loss = PreferenceLoss.Config(**{k: v for k, v in stage.objective.items() if k != "_target_"})
    assert (loss.beta, loss.gamma, loss.tau) == (0.1, 0.0, 0.1)
    assert loss.reference_margin is ReferenceMargin.hypo_smooth
    assert loss.logprob is SequenceLogprob.sum
    optim = stage.optim
    assert (optim.lr, optim.schedule, optim.min_lr_ratio) == (5e-7, Schedule.cosine, 0.0)
    assert (optim.max_grad_norm, optim.weight_decay, optim.betas) == (0.0, 0.0, [0.9, 0.999])
    assert (stage.epochs, stage.steps, stage.batch_pairs, stage.warmup_share) == (1.0, 0, 128, 0.1)
    config = layered(["recipe=hypo", f"scale={scale}"]).config
    assert (stage.max_tokens, config.data.max_prompt_tokens) == (2048, 1800)
    assert [name for name, node in config.stages.items() if node is not None] == ["preference"]
    assert (config.model.dtype, config.learner.gradient_checkpointing) == ("bfloat16", True)
    assert config.learner.zero_stage == (2 if scale == "gpu" else 3)


def test_tiny_runs_without_data_and_needs_a_learner_and_a_frozen_model_only() -> None:
    run = compose(TINY)
    assert list(run.config.stages) == ["sft", "reference", "preference"]
    assert {role.name for role in make_plan(run).roles} == {"learner", "frozen/reference"}


def test_every_switch_is_an_override() -> None:
    key = "stages.preference.objective"
    for margin in ReferenceMargin:
        compose([*TINY, f"{key}.reference_margin={margin.name}"])
    free = compose([*TINY, f"{key}.reference_margin=none", f"{key}.classify=false"])
    assert free.streams() == frozenset()
    assert {role.name for role in make_plan(free).roles} == {"learner"}
    for field in ("gamma=-inf", "tau=0", "logprob=mean", "logprob=mean_without_end", "loss=squared", "beta=5"):
        compose([*TINY, f"{key}.{field}"])


@pytest.mark.parametrize(
    ("override", "key"),
    [
        ("rollout.sampling.temperature=0.7", "rollout.sampling.temperature"),
        ("stages.preference.max_tokens=128", "stages.preference.max_tokens"),
        ("data.max_prompt_tokens=64", "data.max_prompt_tokens"),
        ("stages.preference.rows=chosen", "stages.preference.rows"),
        ("frozen.reference.stream=other", "frozen"),
        ("stages.preference.objective.beta=0", "stages.preference.objective.beta"),
        ("stages.preference.objective.reference_margin=dop", "stages.preference.objective.reference_margin"),
        ("stages.preference.batch_pairs=0", "stages.preference.batch_pairs"),
    ],
)
def test_a_run_that_makes_no_sense_is_refused_by_name(override: str, key: str) -> None:
    _, problems = compose_with_problems([*TINY, override])
    assert key in [problem.key for problem in problems]


# -------------------------------------------------------------------------------------------------------- the task


def test_the_letter_task_is_length_matched_seeded_and_its_labels_follow_the_hidden_weights() -> None:
    config = LetterPairs.Config(sharpness=3.0)
    pairs = list(LetterPairs(config).pairs(3000, seed=1))
    assert pairs == list(LetterPairs(config).pairs(3000, seed=1))
    assert pairs[:5] != list(LetterPairs(config).pairs(5, seed=2))
    assert {len(text) for pair in pairs for text in (pair.chosen, pair.rejected)} == {16}
    counts = np.array([[[text.count(letter) for letter in LETTERS] for text in (p.chosen, p.rejected)] for p in pairs])
    features = (counts[:, 0] - counts[:, 1]).astype(float)
    weight = np.linalg.lstsq(features, np.ones(len(pairs)), rcond=None)[0]
    assert np.mean(features @ weight > 0) > 0.8  # letters decide, up to the labels' noise
    frequency = np.log(1 + counts.sum((0, 1)))
    assert 0.35 < np.mean(features @ frequency < 0) < 0.65  # and their frequency says next to nothing


@pytest.mark.parametrize("fields", [{"length": 0}, {"spread": -1.0}, {"sharpness": 0.0}])
def test_a_task_that_makes_no_sense_is_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValueError):
        LetterPairs.Config(**fields)


# --------------------------------------------------------------------------------------------------------- batches


def rows_of(count: int) -> Batch:
    pairs = [
        Pair(
            prompt=Prompt(id=str(i), messages=(), token_ids=np.array([i], np.int32)),
            chosen=np.array([i, 1], np.int32),
            rejected=np.array([i, 2], np.int32),
        )
        for i in range(count)
    ]
    return Batch.from_rows(rows_of_pairs(pairs))


def test_an_epoch_hands_out_every_pair_once_chosen_first_and_goes_on_from_any_step() -> None:
    rows, per_epoch = rows_of(10), 4
    stream = pair_batches(rows, 3, seed=5, start=0)
    batches = [next(stream) for _ in range(2 * per_epoch)]
    for epoch in (batches[:per_epoch], batches[per_epoch:]):
        assert [len(batch) for batch in epoch] == [6, 6, 6, 2]
        groups = np.concatenate([batch.groups for batch in epoch])
        assert sorted(groups[::2].tolist()) == list(range(10))
    for batch in batches:
        assert np.array_equal(batch.groups[::2], batch.groups[1::2])
        assert [int(batch.row(i, "token_ids")[-1]) for i in range(len(batch))] == [1, 2] * (len(batch) // 2)
    assert not np.array_equal(batches[0].groups, batches[per_epoch].groups)
    for start in range(2 * per_epoch):
        again = next(pair_batches(rows, 3, seed=5, start=start))
        assert np.array_equal(again["token_ids"], batches[start]["token_ids"])


def test_minus_infinity_survives_the_way_from_the_command_line_to_the_loss() -> None:
    stage = stage_of([*TINY, "stages.preference.objective.gamma=-inf"])
    assert float(stage.objective["gamma"]) == -math.inf
