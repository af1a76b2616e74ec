"""The public fakes: they keep the contracts, learn, and go on from a checkpoint bit for bit; records are whole."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.reward.exact import ExactMatch
from raylign.batch import Batch
from raylign.contracts import (
    FrozenStream,
    Learner,
    Refused,
    RewardFunction,
    RewardPools,
    RolloutPool,
    RolloutTask,
    Sampling,
)
from raylign.errors import ConfigError, EngineDeadError
from raylign.loop import StepSettings
from raylign.loop.collect import collect
from raylign.records import Absent, Missing, Prompt, StopReason, Trajectory, Value
from raylign.row_needs import row_needs
from raylign.testing import (
    FakeFrozen,
    FakeLearner,
    FakeRewards,
    FakeRollouts,
    call,
    fake_loop,
    group,
    prompt,
    random_batch,
    random_groups,
    row,
    rows_of,
    tiny_run,
    trajectory,
)


def threes(_: Prompt, said: Trajectory) -> float:
    return float(np.mean(said.calls[0].token_ids == 3))


@pytest.mark.parametrize(
    ("contract", "fake"),
    [
        (RolloutPool, FakeRollouts()),
        (RewardPools, FakeRewards({})),
        (Learner, FakeLearner()),
        (FrozenStream, FakeFrozen()),
    ],
)
def test_a_fake_has_what_its_contract_lists(contract: type, fake: object) -> None:
    for name, member in vars(contract).items():
        if inspect.isfunction(member) and not name.startswith("_"):
            wanted, given = (list(inspect.signature(each).parameters) for each in (member, getattr(type(fake), name)))
            assert given == wanted, f"{contract.__name__}.{name}"
        elif isinstance(member, property):
            assert hasattr(fake, name)


async def test_the_real_loop_learns_and_goes_on_from_a_checkpoint_bit_for_bit(tmp_path: Path) -> None:
    whole, broken, resumed = (fake_loop(FakeRewards({"threes": threes})) for _ in range(3))
    results = [await whole.step(step) for step in range(30)]
    first, last = (
        np.mean([result.metrics["reward/threes"] for result in part]) for part in (results[:5], results[-5:])
    )
    assert last > first + 0.3
    for step in range(12):
        await broken.step(step)
    await broken.save(tmp_path)
    await resumed.restore(tmp_path, broken.state_dict())
    await resumed.publish()
    for step in range(12, 30):
        assert (await resumed.step(step)).metrics["loss"] == results[step].metrics["loss"]
    learners: list[Any] = [whole.parts.learner, resumed.parts.learner]
    assert learners[0].logits.tobytes() == learners[1].logits.tobytes() and learners[1].updates == 30


async def test_the_learner_climbs_the_objective_that_it_names() -> None:
    """Its gradient against finite differences of sum(weight * advantage * logp) / tokens."""
    batch, learner = random_batch(3), FakeLearner(vocab=16)
    learner.logits = np.random.default_rng(0).normal(size=16)
    mask, before = batch["loss_mask"], learner.logits

    async def value(logits: np.ndarray) -> float:
        learner.logits = logits
        logp = (await learner.streams(batch, ["old_logprob"]))["old_logprob"].astype(np.float64)
        return float((batch["weight"] * batch["advantage"] * logp)[mask].sum() / mask.sum())

    steps = 1e-2 * np.eye(16)
    slopes = [(await value(before + step) - await value(before - step)) / 2e-2 for step in steps]
    learner.logits = before
    await learner.update(batch, {})
    np.testing.assert_allclose(learner.logits - before, slopes, atol=1e-4)


async def test_supervised_rows_raise_their_own_likelihood() -> None:
    learner, batch = FakeLearner(), Batch.from_rows([row(tokens=[1, 2, 5, 5, 5])])
    losses = [(await learner.update(batch, {})).metrics["loss"] for _ in range(20)]
    assert losses[0] == pytest.approx(np.log(8)) and losses[-1] < 0.3
    with pytest.raises(ValueError, match=r"token id 97 is beyond FakeLearner\(vocab=8\); texts need 256"):
        await learner.update(Batch.from_rows([row(tokens=[1, 2, 97])]), {})


async def test_weights_are_proven_by_their_probe() -> None:
    learner, rollouts = FakeLearner(), FakeRollouts()
    learner.logits[5] = 50.0
    update = await learner.publish(7)
    await rollouts.publish(update)
    task = RolloutTask(prompt=prompt(), n=4, sampling=Sampling(max_tokens=9), run_seed=1)
    collected = await collect([task], rollouts, FakeRewards({}), 5.0)
    said = [sample.calls[0] for sample in collected.groups[0].trajectories]
    assert [c.token_ids.tolist() for c in said] == [[5, 5]] * 4 and said[0].versions.tolist() == [7, 7]
    learner.logits[5] = 0.0
    other = await learner.publish(8)
    with pytest.raises(EngineDeadError, match="weights of version 7 are"):
        await rollouts.publish(type(update)(**{**_fields(update), "probe_logprobs": other.probe_logprobs}))


def _fields(update: Any) -> dict[str, Any]:
    return {name: getattr(update, name) for name in type(update).__dataclass_fields__}


async def test_samples_say_what_a_function_says_and_may_be_refused() -> None:
    def says(task: RolloutTask, index: int) -> str | Trajectory | Refused:
        if index == 1:
            return Refused(sample_index=1, reason="no room")
        return str(task.prompt.answer) if index else trajectory(call("cut", stop=StopReason.LENGTH))

    exact = ExactMatch(ExactMatch.Config())
    task = RolloutTask(prompt=prompt(4), n=3, sampling=Sampling(max_tokens=9), run_seed=1)
    rollouts = FakeRollouts(says)
    (collected,) = (await collect([task], rollouts, FakeRewards({"exact": exact}), 5.0)).groups
    cut, lost, right = collected.trajectories
    assert cut.truncated and cut.rewards["exact"] == Value(score=0.0)
    assert lost.rewards["rollout"] == Missing(reason="no room")
    assert (
        right.rewards["exact"] == Value(score=1.0) and right.text == "4" and right.calls[0].token_ids.tolist() == [52]
    )
    assert rollouts.asked == [task] and len({sample.seed for sample in collected.trajectories}) == 3


async def test_a_reward_function_that_raises_is_missing_and_one_that_gives_none_is_absent() -> None:
    class Odd(RewardFunction):
        @dataclass
        class Config:
            raises: bool

        def score(self, prompt: Prompt, trajectories: Any) -> list[Value | None]:
            if self.config.raises:
                raise KeyError("oops")
            return [None]

    rewards = FakeRewards({"raises": Odd(Odd.Config(raises=True)), "none": Odd(Odd.Config(raises=False))})
    scored = await rewards.score(prompt(), trajectory("x"))
    assert scored == {"raises": Missing(reason="KeyError: 'oops'"), "none": Absent()}
    with pytest.raises(ZeroDivisionError):  # a plain function is the test's own
        await FakeRewards({"mine": lambda p, t: 1 / 0}).score(prompt(), trajectory("x"))


async def test_a_frozen_model_that_could_not_score_a_row_says_so() -> None:
    batch = random_batch(multi_turn=True)
    stream = await FakeFrozen(-2.0, unscored=[1]).stream(batch, ())
    mask, owner = batch["loss_mask"], batch.row_of_token
    assert np.isnan(stream[mask & (owner == 1)]).all() and not stream[~mask].any()
    assert (stream[mask & (owner != 1)] == -2).all()


def test_random_rows_are_rows_and_random_groups_make_rows() -> None:
    for seed in range(5):
        batch = random_batch(seed)
        row_needs(batch, share_prompts=True)  # raises where rows of a group differ in their prompts
        assert batch["advantage"].dtype == np.float32 and not batch["advantage"][~batch["loss_mask"]].any()
        assert random_batch(seed)["old_logprob"].tobytes() == batch["old_logprob"].tobytes()
    groups = random_groups(1, count=20, size=4)
    made = rows_of(groups)
    rows, scores = made.batch, made.scores
    valid = sum(len(group.valid) for group in groups)
    assert len(rows) == len(scores) == valid < 80 and "turn" in rows
    assert all(sample.prompt_key == group.prompt.key for group in groups for sample in group.trajectories)


def test_records_are_numbered_within_their_group() -> None:
    made = group(trajectory("a", rewards={"right": 1}), trajectory("b", "c", seed=3), prompt=prompt(2, visit=1))
    assert [(t.prompt_key, t.sample_index) for t in made.trajectories] == [("p2#1", 0), ("p2#1", 1)]
    assert made.trajectories[0].rewards == {"right": Value(score=1.0)} and made.trajectories[1].text == "b\nc"
    assert len(group(scores=[1.0, None]).trajectories) == 2


def test_a_run_is_composed_and_checked_as_the_command_line_does() -> None:
    assert tiny_run("seed=7").config.seed == 7 and tiny_run("recipe=hypo").config.recipe == "hypo"
    with pytest.raises(ConfigError, match="did you mean"):
        tiny_run("stages.rl.stepz=3")


async def test_parts_and_numbers_of_the_loop_can_be_given() -> None:
    step = StepSettings(prompts_per_step=2, group_size=2)
    loop = fake_loop(
        FakeRewards({"threes": threes}), [prompt(i) for i in range(5)], step, seed=9, learner=FakeLearner(2.0)
    )
    result = await loop.step(0)
    assert len(result.groups) == 2 and loop.settings.seed == 9 and loop.parts.learner.lr == 2.0  # type: ignore[attr-defined]
