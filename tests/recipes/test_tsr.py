"""TSR's parts in its environments: simulation and reality, the warm start's texts, and every combination of its
settings.
"""

from __future__ import annotations

import asyncio
import random
from typing import Any

import numpy as np
import pytest

from raylign.actors.environments.agent_format import AgentFormat, read_block
from raylign.actors.environments.episode import EnvironmentCounters, Episode
from raylign.actors.environments.games.frozen_lake import FrozenLake
from raylign.actors.environments.games.sokoban import Sokoban
from raylign.actors.environments.host import EnvironmentHost
from raylign.actors.environments.webshop.shop import WebShop
from raylign.actors.rollout.beam import Beam
from raylign.actors.rollout.multi_turn import MultiTurn
from raylign.actors.rollout.scores import RiskAware, ShopProgress
from raylign.config.build import build
from raylign.config.compose import compose, layered
from raylign.contracts import Part
from raylign.errors import ConfigError, DataError
from raylign.objectives.advantage.gae import GAE
from raylign.recipes.tsr.warm_up import random_block, random_turns
from raylign.records import Call, Prompt, StopReason

SEARCHES = ("naive", "best_of_n", "beam", "lookahead", "code_bon", "code_beam1", "code_spread")
ENVIRONMENTS = ("sokoban", "frozen_lake", "webshop")
NOTHING = np.zeros(0, np.int32)


def prompt(seed: int) -> Prompt:
    return Prompt(id=f"instance {seed}", messages=(), token_ids=NOTHING, meta={"env_seed": seed})


async def test_simulated_outcomes_are_the_real_ones_and_change_nothing() -> None:
    """1,000 random prefixes of Sokoban: what a fork met is what the episode then meets, whatever forks did before."""
    node = {"_target_": "raylign.actors.environments.games.sokoban.Sokoban", "levels": "open", "format": "letters"}
    host, rng, prefixes = EnvironmentHost(node), random.Random(1), 0
    while prefixes < 1000:
        episode = await Episode.open(host, prompt(prefixes % 40), 0, 0, EnvironmentCounters())
        done = False
        while not done and prefixes < 1000:
            prefixes += 1
            blocks = ["".join(rng.choices("UDLR", k=2)) for _ in range(3)]
            forks = [await episode.branch() for _ in blocks]
            simulated = [await fork.step(block) for fork, block in zip(forks, blocks, strict=True)]
            for fork, seen in zip(forks, simulated, strict=True):
                if not seen.done:
                    await fork.step("UD")
                await fork.close()
            real = await episode.step(blocks[-1])
            assert real == simulated[-1]
            done = real.done
        await episode.close()
    assert host.episodes == 0


@pytest.mark.parametrize("environment", ENVIRONMENTS)
@pytest.mark.parametrize("search", SEARCHES)
def test_every_search_goes_with_every_environment(environment: str, search: str) -> None:
    cfg = compose(["recipe=tsr", "scale=tiny", f"environment={environment}", f"search={search}"]).config
    host = EnvironmentHost(cfg.environment.fn)
    strategy = build(Part, cfg.stages["rl"]["strategy"], "stages.rl.strategy", environments=host)
    plain = build(Part, cfg.rollout.strategy, "rollout.strategy", environments=host)
    assert type(plain) is MultiTurn and plain.config.max_turns == strategy.config.max_turns, "evaluations do not search"
    assert strategy.config.max_turns == {"sokoban": 5, "frozen_lake": 5, "webshop": 9}[environment]
    scorers = {"frozen_lake": RiskAware, "webshop": ShopProgress}
    if search == "code_beam1":
        assert strategy.scorer.config.invalid == -1e6, "the released code scores by raw reward in every environment"
    elif environment in scorers:
        assert isinstance(strategy.scorer, scorers[environment])
    selectors = {"code_bon": "TopK", "code_spread": "Chain"}
    assert cfg.selector["_target_"].endswith(selectors.get(search, "KeepAll")), (
        "the toy keeps all, a released form does not"
    )
    if isinstance(strategy, Beam):
        assert strategy.config.simulations == (8 if environment == "frozen_lake" else 1)


def test_the_digests_values_are_the_defaults() -> None:
    cfg = layered(["recipe=tsr", "scale=node"]).config
    assert cfg.rollout.strategy == {"_target_": "raylign.actors.rollout.multi_turn.MultiTurn", "max_turns": 5}
    assert cfg.stages["rl"]["strategy"] == {
        "_target_": "raylign.actors.rollout.beam.Beam",
        "max_turns": 5,
        "noise": "live",
    }
    beam = Beam.Config()
    assert (beam.candidates, beam.width) == (4, 2)
    rl = cfg.stages["rl"]
    assert (rl["steps"], rl["prompts_per_step"], rl["group_size"]) == (200, 8, 16)
    assert rl["eval_sampling"] == {"temperature": 0.5, "max_tokens": 400} == cfg.stages["after"]["sampling"]
    assert (cfg.learner.optim.lr, cfg.critic.optim.lr, cfg.learner.optim.betas) == (1e-6, 1e-5, [0.9, 0.999])
    assert cfg.selector == {"_target_": "raylign.objectives.selection.VarianceFilter", "ratio": 0.25}
    assert cfg.objective["old_logprob"] == "recompute"
    assert (cfg.objective["clip_low"], cfg.objective["clip_high"], cfg.objective["entropy_coef"]) == (0.2, 0.28, 0.001)
    assert "kl_coef" not in cfg.objective
    advantage = build(Part, cfg.advantage, "advantage")
    assert isinstance(advantage, GAE) and (advantage.config.gamma, advantage.config.lam) == (1.0, 1.0)
    assert advantage.config.reward_at.name == "end"
    raw = layered(["recipe=tsr", "scale=node", "search=code_bon"]).config
    assert raw.stages["rl"]["group_size"] == 32
    assert [part["_target_"].rpartition(".")[2] for part in raw.selector["parts"]] == ["TopK", "VarianceFilter"]
    spread = layered(["recipe=tsr", "scale=node", "search=code_spread"]).config
    assert [part.get("ratio", part.get("share")) for part in spread.selector["parts"]] == [0.5, 0.5]


def test_grpo_needs_no_critic() -> None:
    grpo = "advantage={_target_: raylign.objectives.advantage.group.GRPO}"
    assert "value" in compose(["recipe=tsr", "scale=tiny"]).streams()
    assert "value" not in compose(["recipe=tsr", "scale=tiny", grpo]).streams()


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("stages.rl.strategy.candidates=0", "candidates and width"),
        ("stages.rl.strategy.simulations=4", "simulations under live noise"),
        ("stages.after.greedy=true", "samples > 1 of a greedy policy"),
        ("selector.keep=3", "is no setting"),
    ],
)
def test_what_makes_no_sense_is_refused(override: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        compose(["recipe=tsr", "scale=tiny", override])


@pytest.mark.parametrize("form", list(AgentFormat))
@pytest.mark.parametrize("kind", [Sokoban, FrozenLake])
def test_random_play_is_legal_in_the_grid_games(kind: Any, form: AgentFormat) -> None:
    numbers = {(name[0] if form is AgentFormat.letters else name).lower(): i for i, name in enumerate(kind.names)}
    lengths = set()
    for seed in range(20):
        environment = kind(kind.Config(format=form))
        for messages, text in random_turns(environment, prompt(seed), seed):
            block = read_block(text, numbers, 2, form)
            assert block.actions and not block.dropped, text
            lengths.add(len(block.actions))
            assert len(messages) % 2 == 0, "after what was seen and said"
    assert lengths == {1, 2}


@pytest.mark.parametrize("form", list(AgentFormat))
def test_random_play_is_legal_in_the_shop(form: AgentFormat) -> None:
    places = set()
    for seed in range(20):
        environment = WebShop(WebShop.Config(format=form, products=20, goals=100, test_goals=10, validation_goals=10))
        for _, text in random_turns(environment, prompt(seed), seed):
            assert text
            places.add(environment.page.place.value)
    assert len(places) > 2
    rng = random.Random(0)
    environment = WebShop(WebShop.Config(format=form, products=20, goals=100, test_goals=10, validation_goals=10))
    environment.reset(prompt(0), 0)
    for _ in range(9):
        seen = environment.step(random_block(environment, rng))
        assert seen.flags["valid"]
        if seen.done:
            break


def test_random_play_of_an_unknown_environment_is_refused() -> None:
    class Other(Sokoban.__mro__[2]):  # type: ignore[misc]  # Environment
        def reset(self, prompt: Prompt, seed: int) -> Any:
            raise AssertionError

        def step(self, action: str) -> Any:
            raise AssertionError

    with pytest.raises(DataError, match="nobody knows the legal actions of Other"):
        random_block(Other(None), random.Random(0))


def test_raw_reward_cannot_tell_the_moves_of_a_frozen_lake_apart_and_the_risk_aware_score_can() -> None:
    """The digest's pitfall: nearly all candidates tie by raw reward, hardly any by the task's own score."""
    raw, risk = [], []
    scorer = RiskAware(RiskAware.Config())
    for seed in range(30):
        scores: list[tuple[float, float]] = []
        for block in ("LL", "DD", "RR", "UU"):
            environment = FrozenLake(FrozenLake.Config(format=AgentFormat.letters))
            environment.reset(prompt(seed), seed)
            seen = environment.step(block)
            call = Call(
                context_ids=NOTHING,
                token_ids=NOTHING,
                logprobs=NOTHING.astype(np.float32),
                versions=NOTHING,
                stop=StopReason.EOS,
                reward=seen.reward,
                flags=seen.flags,
            )
            scores.append((call.reward or 0.0, scorer.score(call)))
        raw.append(len({one for one, _ in scores}) == 1)
        risk.append(len({two for _, two in scores}) == 1)
    assert np.mean(raw) > 0.5
    assert np.mean(risk) < 0.3


def test_fair_simulations_on_ice() -> None:
    """Part D on FrozenLake: the slips of the live stream are foreseen exactly, those of another stream are not."""
    node = {"_target_": "raylign.actors.environments.games.frozen_lake.FrozenLake", "format": "letters"}

    async def gaps(noise: int | None) -> list[float]:
        host, differences = EnvironmentHost(node), []
        for seed in range(300):
            episode = await Episode.open(host, prompt(seed % 20), seed, 0, EnvironmentCounters())
            fork = await episode.branch(None if noise is None else noise + seed)
            block = "LDRU"[seed % 4]
            simulated, real = await fork.step(block), await episode.step(block)
            places = [seen.flags["distance_after"] for seen in (simulated, real)]
            differences.append(
                float(5 if places[0] is None else places[0]) - float(5 if places[1] is None else places[1])
            )
            await fork.close()
            await episode.close()
        return differences

    assert set(asyncio.run(gaps(None))) == {0.0}
    fair = np.array(asyncio.run(gaps(10_000)))
    assert fair.var() > 0
    assert abs(fair.mean()) < 3 * fair.std(ddof=1) / np.sqrt(len(fair))
