"""What the tests of the environments share: prompts, turns in the agent format, and the exactness test of snapshots."""

from __future__ import annotations

import pickle
import random
from collections.abc import Callable
from typing import Any

import numpy as np

from raylign.environment import Environment, Observation
from raylign.records import Prompt


def prompt(**meta: Any) -> Prompt:
    return Prompt(id="p", messages=(), token_ids=np.zeros(0, np.int32), meta=meta)


def say(*actions: str) -> str:
    return f"<think>thoughts</think><answer>{' || '.join(actions)}</answer>"


def text_of(seen: Observation) -> str:
    return "\n".join(message["content"] for message in seen.messages)


Choose = Callable[[Environment, random.Random], str]


def walk(environment: Environment, choose: Choose, turns: int, draw: random.Random) -> bool:
    """Random turns; False when the episode ended."""
    return not any(environment.step(choose(environment, draw)).done for _ in range(turns))


def check_simulation(make: Callable[[], Environment], choose: Choose, instance: int, noise: int) -> bool:
    """After a random prefix: what is simulated on a restored snapshot is what really comes, and the environment is
    untouched.

    False when the prefix ended the episode, so that nothing was compared.
    """
    draw = random.Random(f"{instance}/{noise}")
    live = make()
    live.reset(prompt(env_seed=instance), noise)
    if not walk(live, choose, draw.randrange(4), draw):
        return False
    state = live.snapshot()
    before = pickle.dumps(state)
    action, further = choose(live, draw), draw.getrandbits(30)
    twin = make()
    twin.restore(pickle.loads(before))
    simulated = twin.step(action)
    if not simulated.done:
        walk(twin, choose, 3, random.Random(further))
    assert pickle.dumps(live.snapshot()) == before
    assert live.step(action) == simulated
    twin.restore(state)  # the snapshot is still of the moment when it was taken
    assert twin.step(action) == simulated
    assert simulated.done or twin.step(action) == live.step(action)
    return True
