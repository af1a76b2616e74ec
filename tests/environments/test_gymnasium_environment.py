"""Real gymnasium environments, played by text: FrozenLake, Taxi, Pendulum, CartPole."""

from __future__ import annotations

import random
from typing import Any

import gymnasium
import numpy as np
import pytest
from environment_cases import check_simulation, prompt, say, text_of
from hypothesis import given, settings
from hypothesis import strategies as st

from raylign.actors.environments.agent_format import AgentFormat
from raylign.actors.environments.gymnasium_environment import GymnasiumEnvironment, Shown
from raylign.config.build import build
from raylign.contracts import Part
from raylign.environment import Environment

NAMES = ["Left", "Down", "Right", "Up"]


def make(**fields: Any) -> GymnasiumEnvironment:
    return GymnasiumEnvironment(GymnasiumEnvironment.Config(**{"id": "FrozenLake-v1", **fields}))


def test_it_plays_as_gymnasium_does() -> None:
    for seed in range(20):
        environment, draw = make(turns=100, actions=200), random.Random(seed)
        environment.reset(prompt(env_seed=seed), 1000 + seed)
        real = gymnasium.make("FrozenLake-v1").unwrapped
        real.reset(seed=seed)
        real.np_random = np.random.default_rng(1000 + seed)
        done = False
        while not done:
            action = draw.randrange(4)
            seen = environment.step(say(str(action)))
            state, reward, done, _, _ = real.step(action)
            assert (seen.reward, seen.done, seen.flags["terminated"]) == (reward, done, done)
            assert done or text_of(seen).startswith(f"{state}\n")
            assert seen.flags["success"] == (done and reward == 1)


def test_names_rules_and_the_text_rendering() -> None:
    environment = make(names=NAMES, show=Shown.ansi, rules="Walk.", kwargs={"is_slippery": False})
    first = text_of(environment.reset(prompt(env_seed=3), 0))
    assert first.startswith("Walk.\nActions: Left, Down, Right, Up.") and "[S]FFF\nFHFH" in first
    assert first.endswith("Actions left: 10.")
    seen = environment.step(say("down", "Down"))
    assert "[F]FFH" in text_of(seen) and seen.flags["actions"] == 2 and seen.flags["effective"]
    seen = environment.step(say("fly"))
    assert seen.reward == -0.1 and not seen.flags["valid"] and "[F]FFH" in text_of(seen)
    letters = make(format=AgentFormat.letters, kwargs={"is_slippery": False})
    assert text_of(letters.reset(prompt(env_seed=3), 0)) == "0"
    assert text_of(letters.step("c")) == "1"
    assert letters.step("b").flags["terminated"]  # the hole below


def test_the_instance_is_the_prompts_and_the_noise_the_seeds() -> None:
    taxi = make(id="Taxi-v4", turns=50, actions=100)
    same = make(id="Taxi-v4", turns=50, actions=100)
    assert taxi.reset(prompt(env_seed=4), 1) == same.reset(prompt(env_seed=4), 2)
    assert len({text_of(taxi.reset(prompt(env_seed=seed), 0)) for seed in range(8)}) > 5
    ends = set()
    for noise in range(30):
        lake = make()
        lake.reset(prompt(env_seed=0), noise)
        ends.add(text_of(lake.step(say("1", "1"))))
    assert len(ends) > 2
    with pytest.raises(ValueError, match="env_seed"):
        taxi.reset(prompt(), 0)


def test_box_actions() -> None:
    environment = make(id="Pendulum-v1")
    assert "1 number from [-2.0] to [2.0]" in text_of(environment.reset(prompt(env_seed=1), 0))
    real = gymnasium.make("Pendulum-v1")
    real.reset(seed=1)
    seen = environment.step(say("0.5"))
    assert seen.reward == pytest.approx(float(real.step(np.array([0.5], np.float32))[1]))
    seen = environment.step(say("7"))
    assert seen.flags["game_reward"] == pytest.approx(float(real.step(np.array([2.0], np.float32))[1]))
    assert not seen.flags["valid"] and seen.flags["actions"] == 1
    for text in (say("left"), say("1, 2"), say("nan"), "0.5", say()):
        seen = environment.step(text) if not seen.done else seen
        assert not seen.flags["valid"] and (seen.done or seen.reward == -0.1)


def test_both_ends_are_told_apart() -> None:
    cart = make(id="CartPole-v1", kwargs={"max_episode_steps": 6}, turns=50, actions=100)
    cart.reset(prompt(env_seed=1), 0)
    cart.step(say("0", "1"))
    cart.step(say("0", "1"))
    last = cart.step(say("0", "1"))
    assert last.done and last.flags["truncated"] and not last.flags["terminated"] and last.reward == 2.0
    cart = make(id="CartPole-v1", turns=50, actions=100)
    seen = cart.reset(prompt(env_seed=1), 0)
    while not seen.done:
        seen = cart.step(say("0", "0"))
    assert seen.flags["terminated"] and not seen.flags["truncated"]


def choose(environment: Environment, draw: random.Random) -> str:
    return say(*(str(draw.randrange(5)) for _ in range(draw.randint(1, 2))))


def test_simulated_outcomes_are_the_real_ones() -> None:
    assert sum(check_simulation(make, choose, seed, seed) for seed in range(200)) >= 100
    assert sum(check_simulation(lambda: make(id="Taxi-v4"), choose, seed, seed) for seed in range(40)) >= 20


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31), st.integers(0, 2**62), st.lists(st.integers(0, 1), max_size=4))
def test_a_restored_environment_goes_on_as_the_first_would(instance: int, noise: int, actions: list[int]) -> None:
    environment, twin = make(id="CartPole-v1"), make(id="CartPole-v1")
    environment.reset(prompt(env_seed=instance), noise)
    for action in actions:
        twin.restore(environment.snapshot())
        assert twin.step(say(str(action))) == environment.step(say(str(action)))


class Unpicklable(gymnasium.Env[int, int]):
    """An environment that holds what cannot be copied."""

    action_space = gymnasium.spaces.Discrete(2)
    observation_space = gymnasium.spaces.Discrete(100)

    def __init__(self) -> None:
        self.handle, self.at = (lambda: None), 0

    def reset(self, *, seed: int | None = None, options: dict[str, Any] | None = None) -> tuple[int, dict[str, Any]]:
        super().reset(seed=seed)
        self.at = int((options or {}).get("at", 0))
        return self.at, {}

    def step(self, action: int) -> tuple[int, float, bool, bool, dict[str, Any]]:
        self.at += action
        return self.at, 0.0, False, False, {"is_success": self.at >= 2}


def test_an_environment_that_cannot_be_copied_has_no_snapshot_and_is_replayed() -> None:
    if "Unpicklable-v0" not in gymnasium.registry:
        gymnasium.register("Unpicklable-v0", entry_point=Unpicklable)
    environment, again = make(id="Unpicklable-v0"), make(id="Unpicklable-v0")
    start = prompt(env_seed=1, options={"at": 1})
    assert environment.replayable and text_of(environment.reset(start, 0)).splitlines()[-2] == "1"
    seen = environment.step(say("1"))
    assert environment.snapshot() is None and seen.flags["success"]
    again.reset(start, 0)
    assert again.step(say("1")) == seen


def test_mistakes_name_the_fix() -> None:
    node = {"_target_": "raylign.actors.environments.gymnasium_environment.GymnasiumEnvironment", "id": "CartPole-v1"}
    assert isinstance(build(Part, node, "environment.fn"), GymnasiumEnvironment)
    for fields, why in (
        ({"id": ""}, "id is empty"),
        ({"id": "NoSuch-v0"}, "gymnasium does not make it"),
        ({"names": ["Left"]}, "has 4 actions"),
    ):
        with pytest.raises(ValueError, match=why):
            make(**fields)
