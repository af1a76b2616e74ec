from my_advantage import OverMean

from raylign.testing import FakeRewards, fake_loop


async def test_the_policy_learns_what_is_rewarded() -> None:
    rewards = FakeRewards({"threes": lambda prompt, trajectory: trajectory.text.count("3")})
    loop = fake_loop(rewards, advantage=OverMean(OverMean.Config()))
    first, *_, last = [await loop.step(step) for step in range(30)]
    assert last.metrics["reward/threes"] > first.metrics["reward/threes"]
