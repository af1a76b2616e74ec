"""Searches on a tree that can be enumerated: who is kept, what it costs, whose chance is met, which seeds are drawn."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from searching import Alphabet, top_b, worth

from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.rollout.beam import Beam, Keep
from raylign.actors.rollout.best_of_n import BestOfN
from raylign.actors.rollout.lookahead import Lookahead
from raylign.actors.rollout.multi_turn import MultiTurn
from raylign.actors.rollout.scores import RiskAware, ShopProgress, TurnReward
from raylign.actors.rollout.search import Noise, Search
from raylign.contracts import Refused, RolloutTask, Sampling
from raylign.records import Call, Prompt, StopReason, Trajectory, derive_seed

WAYS = (Search, BestOfN, Beam, Lookahead)


@pytest.fixture(scope="module")
def tokenizer(tiny_model: Path) -> Any:
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(tiny_model)


@pytest.fixture
def policy(tokenizer: Any) -> Alphabet:
    return Alphabet(tokenizer)


@pytest.fixture
def task(tokenizer: Any) -> RolloutTask:
    messages = ({"role": "user", "content": "go"},)
    ids = tokenizer.apply_chat_template(
        [dict(m) for m in messages], tokenize=True, add_generation_prompt=True, return_dict=True
    )["input_ids"]
    prompt = Prompt(id="p", messages=messages, token_ids=np.array(ids, np.int32))
    return RolloutTask(prompt=prompt, n=1, sampling=Sampling(max_tokens=4), run_seed=5)


async def play(way: type, config: Any, task: RolloutTask, policy: Alphabet, **environment: Any) -> list[Any]:
    host = EnvironmentHost({"_target_": "searching.Tree", **environment})
    trajectories = [trajectory async for trajectory in way(config, host).run(task, policy)]
    assert host.episodes == 0, "a search left environments open"
    return sorted(trajectories, key=lambda trajectory: trajectory.sample_index)


def path_of(one: Trajectory) -> str:
    return str(one.calls[-1].flags["path"])


@pytest.mark.parametrize("short", ["", "b", "c"])
@pytest.mark.parametrize(("candidates", "width"), [(4, 1), (4, 2), (4, 4), (3, 2), (2, 2)])
@pytest.mark.parametrize("noise", list(Noise))
async def test_the_beam_is_top_b(
    task: RolloutTask, policy: Alphabet, candidates: int, width: int, short: str, noise: Noise
) -> None:
    expected = top_b("abcd"[:candidates], width, short)
    config = Beam.Config(candidates=candidates, width=width, keep=Keep.all, noise=noise)
    trajectories = await play(Beam, config, replace(task, n=width), policy, short=short)
    assert [path_of(trajectory) for trajectory in trajectories] == expected
    assert [trajectory.sample_index for trajectory in trajectories] == list(range(width))
    policy.asked.clear()
    config = Beam.Config(candidates=candidates, width=width, noise=noise)
    (best,) = await play(Beam, config, task, policy, short=short)
    assert path_of(best) == expected[0]


async def test_lookahead_takes_the_best_reachable(task: RolloutTask, policy: Alphabet) -> None:
    """With all four continuations of one turn, a candidate is worth its own and its best child's reward."""
    (one,) = await play(Lookahead, Lookahead.Config(depth=1), task, policy)
    path = ""
    for left in (2, 1, 0):
        ahead = {c: max(worth(path + c + d) for d in "abcd") if left else 0.0 for c in "abcd"}
        path += max("abcd", key=lambda c: worth(path + c) + ahead[c])
    assert path_of(one) == path


async def test_best_of_n_keeps_the_highest_return(task: RolloutTask, policy: Alphabet) -> None:
    (best,) = await play(BestOfN, BestOfN.Config(attempts=4), task, policy)
    others = ["aaa", "bbb", "ccc", "ddd"]  # the policy's n-th answer to the same ids is the n-th letter, then a again
    returns = {path: worth(path[:1]) + worth(path[:1] + "a") + worth(path[:1] + "aa") for path in others}
    assert path_of(best)[0] == max(returns, key=lambda path: returns[path])[0]
    assert best.metrics["search/gain"] == pytest.approx(max(returns.values()) - np.mean(list(returns.values())))


@pytest.mark.parametrize("way", WAYS)
async def test_costs_add_up_to_what_was_sampled(way: type, task: RolloutTask, policy: Alphabet) -> None:
    trajectories = await play(way, way.Config(), replace(task, n=3), policy)  # type: ignore[attr-defined]
    tokens = sum(
        trajectory.metrics["search/tokens_kept"] + trajectory.metrics["search/tokens_discarded"]
        for trajectory in trajectories
    )
    assert tokens == policy.sampled
    assert all(trajectory.metrics["search/tokens_kept"] == trajectory.response_length for trajectory in trajectories)
    assert all(trajectory.metrics["search/env_calls_kept"] == 3 for trajectory in trajectories)
    # Beam: 4 + 8 + 8 simulations, 6 turns lived, a probe of each. Lookahead: 12 simulations, 16 continuations of
    # 2 turns and 16 of 1, 3 turns lived and a probe of each.
    calls = {Search: 3, BestOfN: 12, Beam: 20 + 6 + 6, Lookahead: 12 + 48 + 3 + 3}[way]
    assert {trajectory.metrics["search/env_calls_discarded"] for trajectory in trajectories} == {calls - 3}


async def test_costs_of_a_beam_that_hands_on_all(task: RolloutTask, policy: Alphabet) -> None:
    config = Beam.Config(keep=Keep.all, noise=Noise.live)
    trajectories = await play(Beam, config, replace(task, n=4), policy)
    assert len(trajectories) == 4
    calls = sum(trajectory.metrics["search/env_calls_discarded"] for trajectory in trajectories[:2])
    lived = len({id(call) for trajectory in trajectories[:2] for call in trajectory.calls})
    assert calls + lived == 4 + 8 + 8 + 2 + 2 + 2


@pytest.mark.parametrize("way", [Beam, Lookahead])
async def test_ties_are_broken_by_lot_that_the_seed_fixes(way: type, task: RolloutTask, tokenizer: Any) -> None:
    async def paths(seed: int) -> list[str]:
        many = replace(task, n=16, run_seed=seed)
        config = way.Config(width=1)  # type: ignore[attr-defined]
        trajectories = await play(way, config, many, Alphabet(tokenizer), flat=True)
        assert {trajectory.metrics["search/ties"] for trajectory in trajectories} == {1.0}
        assert {trajectory.metrics["search/undecided"] for trajectory in trajectories} == {1.0}
        assert {trajectory.metrics["search/gain"] for trajectory in trajectories} == {0.0}
        return [path_of(trajectory) for trajectory in trajectories]

    first = await paths(1)
    assert len(set(first)) > 8
    assert first == await paths(1)
    assert first != await paths(2)


@pytest.mark.parametrize("way", WAYS)
async def test_the_first_candidate_has_the_plain_seed_and_seeds_never_repeat(
    way: type, task: RolloutTask, policy: Alphabet
) -> None:
    await play(way, way.Config(), replace(task, n=2), policy)  # type: ignore[attr-defined]
    plain = {derive_seed(5, "p#0", index, turn) for index in range(2) for turn in range(3)}
    assert plain <= set(policy.seeds)
    assert len(policy.seeds) == len(set(policy.seeds))


async def test_a_sample_is_the_same_whoever_makes_it_and_what_else_is_sampled(
    task: RolloutTask, tokenizer: Any
) -> None:
    config = Beam.Config(keep=Keep.all, simulations=2)
    whole = await play(Beam, config, replace(task, n=4), Alphabet(tokenizer), noise=0.5)
    part = await play(Beam, config, replace(task, n=4, indices=(3,)), Alphabet(tokenizer), noise=0.5)
    assert [one.sample_index for one in part] == [3]
    assert path_of(part[0]) == path_of(whole[3])
    assert [call.reward for call in part[0].calls] == [call.reward for call in whole[3].calls]


async def test_live_noise_sees_the_future_and_fresh_noise_does_not(task: RolloutTask, policy: Alphabet) -> None:
    """Part D of TSR's digest: the forecast of a clairvoyant search is never wrong; a fair one errs without bias."""
    many = replace(task, n=100)
    live = await play(Beam, Beam.Config(width=1, noise=Noise.live), many, policy, noise=1.0)
    fresh = await play(Beam, Beam.Config(width=1, simulations=8), many, policy, noise=1.0)
    assert {one.metrics["search/gap"] for one in live} == {0.0} == {one.metrics["search/gap_squared"] for one in live}
    gaps = np.array([one.metrics["search/gap"] for one in fresh])
    assert gaps.var() > 0.1
    assert abs(gaps.mean()) < 3 * gaps.std(ddof=1) / np.sqrt(len(gaps))
    optimism = np.array([one.metrics["search/optimism"] for one in fresh])
    assert 0 < optimism.var() < gaps.var(), "a mean of eight errs less than one"


async def test_simulations_leave_the_live_environment_alone(task: RolloutTask, tokenizer: Any) -> None:
    """What a search kept, played again without any, meets the same rewards: its forks used none of its chance."""

    class Replayed(Alphabet):
        letters: list[str]

        async def generate(self, token_ids: Any, sampling: Sampling, seed: int) -> Any:
            said = await super().generate(token_ids, sampling, seed)
            return replace(said, text=self.letters.pop(0))

    for config in (Beam.Config(width=1), Lookahead.Config(simulations=2), Beam.Config(width=2, noise=Noise.live)):
        way = Lookahead if isinstance(config, Lookahead.Config) else Beam
        (trajectory,) = await play(way, config, task, Alphabet(tokenizer), noise=1.0)
        again = Replayed(tokenizer)
        again.letters = [call.text for call in trajectory.calls]
        (plain,) = await play(MultiTurn, MultiTurn.Config(), task, again, noise=1.0)
        assert [call.reward for call in plain.calls] == [call.reward for call in trajectory.calls]


async def test_a_released_form_never_takes_an_illegal_turn(task: RolloutTask, policy: Alphabet) -> None:
    scorer = {"_target_": "raylign.actors.rollout.scores.TurnReward", "invalid": -1e6}
    (one,) = await play(Beam, Beam.Config(width=1, scorer=scorer), task, policy)
    path = ""
    for _ in range(3):
        path += max("abc", key=lambda letter: worth(path + letter))
    assert path_of(one) == path
    assert one.metrics["search/invalid"] == 0.25


async def test_a_search_whose_prompt_does_not_fit_refuses_all_its_samples(task: RolloutTask, policy: Alphabet) -> None:
    from raylign.errors import RequestError

    async def refuse(*_: Any) -> Any:
        raise RequestError("too long")

    policy.generate = refuse  # type: ignore[method-assign]
    refused = await play(Beam, Beam.Config(keep=Keep.all), replace(task, n=4), policy)
    assert [(type(sample), sample.sample_index) for sample in refused] == [(Refused, index) for index in range(4)]


def turn(reward: float | None, **flags: Any) -> Call:
    none = np.zeros(0, np.int32)
    return Call(
        context_ids=none,
        token_ids=none,
        logprobs=none.astype(np.float32),
        versions=none,
        stop=StopReason.EOS,
        reward=reward,
        flags=flags,
    )


def test_scores_of_turns() -> None:
    raw, mean = TurnReward(TurnReward.Config()), TurnReward(TurnReward.Config(per_action=True))
    released = TurnReward(TurnReward.Config(flag="game_reward", invalid=-1e6))
    long = turn(-0.3, actions=2, game_reward=-0.2)
    assert (raw.score(long), mean.score(long), released.score(long)) == (-0.3, -0.15, -0.2)
    assert released.score(turn(-0.1, actions=0, game_reward=0.0)) == -1e6
    assert mean.score(turn(-0.1, actions=0)) == -0.1
    # Two steps cost more than one: the sum likes the short block, the mean does not.
    one, two = turn(-0.1, actions=1), turn(-0.2, actions=2)
    assert raw.score(one) > raw.score(two)
    assert mean.score(one) == mean.score(two)
    careful = RiskAware(RiskAware.Config())
    assert careful.score(turn(0.0, distance_before=3, distance_after=2, fall_probability=0.1)) == pytest.approx(0.05)
    assert careful.score(turn(0.0, distance_before=3, distance_after=None, fall_probability=0.1)) == -0.5
    assert careful.score(turn(1.0, distance_before=1, distance_after=0, fall_probability=0.0)) == pytest.approx(1.1)
    shop = ShopProgress(ShopProgress.Config())
    assert shop.score(turn(0.0, goal_overlap=0.5, new_option=True)) == pytest.approx(0.1)
    with pytest.raises(ValueError, match="gave the turn no reward"):
        raw.score(turn(None))
    with pytest.raises(ValueError, match="no flag goal_overlap"):
        shop.score(long)


def test_what_makes_no_sense_is_refused() -> None:
    with pytest.raises(ValueError, match="simulations under live noise"):
        Beam.Config(noise=Noise.live, simulations=2)
    with pytest.raises(ValueError, match="keep=all"):
        Beam.Config(keep=Keep.all, candidates=1, width=2)
    with pytest.raises(ValueError, match="depth and continuations"):
        Lookahead.Config(depth=0)
