"""The environment that actors/README.md shows, at work behind the contract."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from raylign.config.build import build
from raylign.contracts import Part
from raylign.environment import Environment
from raylign.errors import ConfigError
from raylign.records import Prompt

NODE = {"_target_": "guess.GuessNumber"}


def game(**fields: int) -> Environment:
    environment = build(Part, {**NODE, **fields}, "environment.fn")
    assert isinstance(environment, Environment)
    return environment


def instance(seed: int) -> Prompt:
    return Prompt(id="p", messages=(), token_ids=np.zeros(0, np.int32), meta={"env_seed": seed})


def test_halving_finds_every_number() -> None:
    seen = set()
    for seed in range(40):
        environment = game()
        first = environment.reset(instance(seed), 0)
        assert first.messages[0]["role"] == "user" and not first.done and first.reward is None
        low, high = 1, 9
        while True:
            guess = (low + high) // 2
            answer = environment.step(f"I say {guess}.")
            if answer.done:
                break
            larger = answer.messages[0]["content"] == "larger"
            low, high = (guess + 1, high) if larger else (low, guess - 1)
        assert answer.reward == 1.0 and answer.flags["success"] and answer.messages == ()
        seen.add(guess)
    assert seen == set(range(1, 10))


def test_nonsense_is_answered_and_turns_run_out() -> None:
    environment = game(turns=2)
    environment.reset(instance(0), 0)
    answer = environment.step("what?")
    assert answer.messages[0]["content"] == "Name a number." and not answer.flags["valid"]
    last = environment.step("99")
    assert last.done and last.reward == 0.0 and not last.flags["success"]


def test_a_snapshot_goes_on_as_the_game_does() -> None:
    environment, twin = game(), game()
    environment.reset(instance(5), 0)
    environment.step("1")
    twin.restore(pickle.loads(pickle.dumps(environment.snapshot())))
    assert [twin.step(text) for text in ("9", "5")] == [environment.step(text) for text in ("9", "5")]


def test_a_bad_setting_is_refused() -> None:
    with pytest.raises(ConfigError, match="highest"):
        game(highest=1)
