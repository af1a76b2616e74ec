"""An environment and a policy whose whole game tree can be written down, for tests of searches."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylign.chat.template import ChatTemplate
from raylign.contracts import Completion, Sampling
from raylign.environment import Environment, Observation
from raylign.records import Float32s, Prompt, StopReason


def worth(path: str) -> float:
    """Reward of the last letter of a path; no two paths of a few letters have the same."""
    return random.Random(path).uniform(-1, 1)


class Tree(Environment):
    """Three turns of one letter each; a path that ends in `short` is over at once. `noise` adds chance to rewards."""

    @dataclass
    class Config:
        short: str = ""
        noise: float = 0.0
        flat: bool = False  # all rewards are 0

    def __init__(self, config: Config) -> None:
        self.config, self.path, self.random = config, "", random.Random(0)

    def reset(self, prompt: Prompt, seed: int) -> Observation:
        self.random = random.Random(seed)
        return Observation(messages=({"role": "user", "content": "go"},))

    def step(self, action: str) -> Observation:
        self.path += action
        reward = 0.0 if self.config.flat else worth(self.path) + self.config.noise * self.random.gauss(0, 1)
        done = len(self.path) == 3 or (bool(self.config.short) and self.path.endswith(self.config.short))
        messages = () if done else ({"role": "user", "content": self.path},)
        flags = {"valid": action != "d", "actions": int(action != "d"), "path": self.path}
        return Observation(messages=messages, reward=reward, done=done, flags=flags)

    def snapshot(self) -> Any:
        return self.path, self.random.getstate()

    def restore(self, state: Any) -> None:
        self.path, noise = state
        self.random.setstate(noise)

    def reseed(self, seed: int) -> None:
        self.random = random.Random(seed)


class Alphabet:
    """A policy whose n-th answer to the same ids is the n-th letter, so that M candidates are the first M letters."""

    max_context = 512

    def __init__(self, tokenizer: Any) -> None:
        self.tokenizer = tokenizer
        self.template = ChatTemplate(tokenizer)
        self.asked: Counter[bytes] = Counter()
        self.seeds: list[int] = []
        self.sampled = 0

    async def generate(self, token_ids: Sequence[int], sampling: Sampling, seed: int) -> Completion:
        key = np.asarray(token_ids, np.int32).tobytes()
        letter = "abcd"[self.asked[key] % 4]
        self.asked[key] += 1
        self.seeds.append(seed)
        ids = np.array([*self.tokenizer.encode(letter, add_special_tokens=False), self.tokenizer.eos_token_id])
        self.sampled += len(ids)
        return Completion(
            token_ids=ids.astype(np.int32),
            logprobs=np.zeros(len(ids), np.float32),
            versions=np.zeros(len(ids), np.int32),
            stop=StopReason.EOS,
            text=letter,
        )

    async def score(self, token_ids: Sequence[int], start: int) -> Float32s:
        raise AssertionError("no search scores tokens")


def top_b(letters: str, width: int, short: str = "") -> list[str]:
    """The beam by its definition: all children of the kept prefixes and the finished ones, sorted by summed worth."""

    def value(path: str) -> float:
        return sum(worth(path[: end + 1]) for end in range(len(path)))

    def over(path: str) -> bool:
        return len(path) == 3 or (bool(short) and bool(path) and path.endswith(short))

    def children(path: str) -> Iterator[str]:
        yield from [path] if over(path) else [path + letter for letter in letters]

    beam = [""]
    while not all(map(over, beam)):
        beam = sorted((child for path in beam for child in children(path)), key=value, reverse=True)[:width]
    return beam
