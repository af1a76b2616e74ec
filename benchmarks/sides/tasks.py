"""The task that both sides of `step_vs_trl.py` train on: prompts, a reward, and long-tailed lengths."""

from __future__ import annotations

import json
import string
from pathlib import Path
from typing import Any

import numpy as np

LETTERS = string.ascii_lowercase


def share_of_vowels(prompt: str, response: str, answer: str, **_: Any) -> float:
    """Share of vowels among the letters of a response; 0 for an empty one."""
    return sum(letter in "aeiou" for letter in response) / max(1, len(response))


def share_of_vowels_trl(completions: list[Any], **_: Any) -> list[float]:
    """The same for TRL's reward interface (plain or conversational completions)."""
    texts = [completion if isinstance(completion, str) else completion[0]["content"] for completion in completions]
    return [share_of_vowels("", text, "") for text in texts]


def lengths(count: int, mean: float, cap: int, seed: int) -> list[int]:
    """Log-normal lengths (sigma 0.8) with about this mean, at most `cap`."""
    sigma = 0.8
    drawn = np.random.default_rng(seed).lognormal(np.log(mean) - sigma**2 / 2, sigma, count)
    return [int(value) for value in np.clip(drawn, 4, cap)]


def write_rows(path: Path, count: int, mean: float, cap: int, seed: int) -> Path:
    """JSONL with `prompt` and `completion`; completions are random letters of log-normal length."""
    rng = np.random.default_rng(seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as stream:
        for length in lengths(count, mean, cap, seed):
            prompt = "".join(rng.choice(list(LETTERS), 12))
            completion = "".join(rng.choice(list(LETTERS), max(1, length - 1)))
            stream.write(json.dumps({"prompt": prompt, "completion": completion}) + "\n")
    return path
