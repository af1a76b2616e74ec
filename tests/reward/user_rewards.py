"""Reward functions as people write them; imported by path."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np


def verl(data_source: str, solution_str: str, ground_truth: Any, extra_info: Any = None) -> dict[str, Any]:
    """verl's signature; a dict with a score and more."""
    right = solution_str == ground_truth
    return {"score": float(right), "acc": right, "source": data_source, "split": (extra_info or {}).get("split")}


def verl_lists(data_sources: list[str], solution_strs: list[str], ground_truths: list[Any]) -> list[float]:
    """verl's batch manager."""
    return [float(one == other) for one, other in zip(solution_strs, ground_truths, strict=True)]


def trl(completions: list[str], solution: list[str], **kwargs: Any) -> list[float | None]:
    """TRL's signature with a column; None where it does not apply."""
    assert len(kwargs["prompts"]) == len(completions) == len(solution)
    return [None if text == "skip" else float(text == gold) for text, gold in zip(completions, solution, strict=True)]


def trl_chat(prompts: list[Any], completions: list[Any], weight: float = 1.0) -> list[float]:
    """TRL's conversational form."""
    assert all(prompt[-1]["role"] == "user" for prompt in prompts)
    return [weight * len(completion[0]["content"]) for completion in completions]


async def slow(prompt: str, response: str, answer: Any) -> float:
    """Asynchronous."""
    await asyncio.sleep(0)
    return float(response == answer)


class Counting:
    """An object that is called; made with one of the kwargs."""

    def __init__(self, start: int = 0) -> None:
        self.start = start

    def __call__(self, response: str, bonus: float = 0.0) -> float:
        return self.start + len(response) + bonus


counting = Counting(10)


class Silent:
    """Cannot be called."""


def array(prompt: str, responses: list[str], answer: Any) -> Any:
    """A group as an array."""
    return np.array([len(text) for text in responses])


def tensor(prompt: str, responses: list[str], answer: Any) -> Any:
    """A group as a tensor with a gradient, half precision."""
    import torch

    return torch.tensor([float(len(text)) for text in responses], dtype=torch.bfloat16, requires_grad=True)


def group_dict(responses: list[str]) -> dict[str, Any]:
    """A group as a dict of lists."""
    return {"score": [float(len(text)) for text in responses], "texts": list(responses), "kind": "length"}


def says(prompt: str, response: str, answer: Any) -> Any:
    """What the response says, as Python."""
    return eval(response, {"np": np, "nan": float("nan")})


def says_all(prompt: str, responses: list[str], answer: Any) -> Any:
    """What the first response says, as Python."""
    return eval(responses[0], {"np": np, "nan": float("nan")})


def text_only(text: str) -> float:
    """A signature of no convention."""
    return float(len(text))


def answer_first(answer: str, response: str, prompt: str) -> float:
    """The own names in another order."""
    return float(response == answer and prompt == "2+2?")


def completion_first(completion: str, question: str, gold: str) -> float:
    """Others' names in another order."""
    return float(completion == gold)


def openrlhf(queries: list[str], prompts: list[str], labels: list[str]) -> list[float]:
    """OpenRLHF's lists."""
    return [1.0] * len(queries)
