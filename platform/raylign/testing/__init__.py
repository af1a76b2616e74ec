"""For tests of what you write: parts that implement the contracts without engines, actors or a model's gradients.

Every part of a recipe can be tried with them in milliseconds, in the real loop, over records of known numbers::

    from raylign.testing import FakeRewards, fake_loop, group, trajectory

    async def test_my_advantage_learns() -> None:
        rewards = FakeRewards({"threes": lambda prompt, trajectory: trajectory.text.count("3")})
        loop = fake_loop(rewards, advantage=MyAdvantage(MyAdvantage.Config()))
        first, *_, last = [await loop.step(step) for step in range(30)]
        assert last.metrics["reward/threes"] > first.metrics["reward/threes"]

    def test_my_shaper() -> None:
        samples = trajectory("yes", rewards={"right": 1.0}), trajectory("no", rewards={"right": 0.0})
        (scored,) = MyShaper(...).score([group(*samples)])

| contract       | fake           | what it does                                                                       |
|----------------|----------------|------------------------------------------------------------------------------------|
| `RolloutPool`  | `FakeRollouts` | samples from the published `FakeLearner`, or says what a function of yours says    |
| `RewardPools`  | `FakeRewards`  | asks reward functions, or plain functions, in this process                         |
| `Learner`      | `FakeLearner`  | one row of logits, which learns by policy gradient in NumPy                        |
| `FrozenStream` | `FakeFrozen`   | a constant, or a function of the batch                                             |

`fake_loop` puts them into a `raylign.loop.Loop` with parts of yours, and `tiny_run` composes a run from overrides.
`prompt`, `call`, `trajectory`, `group`, `row` and `rows_of` make records, `random_batch` and `random_groups` many. They
prove the arithmetic around a part. That a recipe works is proven by a run of the real actors:
``raylign train ... scale=tiny``.
"""

from raylign.testing.frozen import FakeFrozen
from raylign.testing.learner import FakeLearner
from raylign.testing.loops import fake_loop, tiny_run
from raylign.testing.random_data import random_batch, random_groups
from raylign.testing.records import call, group, prompt, row, rows_of, trajectory
from raylign.testing.rewards import FakeRewards
from raylign.testing.rollouts import FakeRollouts

__all__ = [
    "FakeFrozen",
    "FakeLearner",
    "FakeRewards",
    "FakeRollouts",
    "call",
    "fake_loop",
    "group",
    "prompt",
    "random_batch",
    "random_groups",
    "row",
    "rows_of",
    "tiny_run",
    "trajectory",
]
