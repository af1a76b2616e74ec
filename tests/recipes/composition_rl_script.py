"""A pair of problems and a scripted policy that composes them, for the tests of the composer that asks a model."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from transformers import AutoTokenizer

from raylign.chat.template import ChatTemplate
from raylign.config.build import build
from raylign.config.schema import TinyModel
from raylign.contracts import Completion, RolloutStrategy, Sampling
from raylign.errors import RequestError
from raylign.models.tiny import build_tiny_model
from raylign.recipes.composition_rl.compose.chain import Chain, seed_problem
from raylign.recipes.composition_rl.rollout import ComposeRollout
from raylign.records import Prompt, StopReason

FIRST = seed_problem("How many faces has a cube?", "6", "cube", "math")
SECOND = seed_problem("A box holds $12$ eggs. How many do $5$ boxes hold?", "60", "eggs", "math")
REPLIES = {
    0: "<analysis>a</analysis><value>6</value><definition>Define VALUE_ONE as the number of faces.</definition>",
    1: "It is \\boxed{6}.",
    3: "<analysis>a</analysis><value>5</value><definition>Define VALUE_TWO as the boxes.</definition>"
    "<modified>A box holds $12$ eggs. How many do $VALUE_TWO$ boxes hold?</modified>",
    4: "\\boxed{ 5 }",
    6: "```python\nimport sympy\nprint(sympy.latex(sympy.Integer(5) - sympy.Integer(6)))\n```",
    7: "```python\nfrom sympy import Integer, latex\nprint(latex(Integer(6) + Integer(-1)))\n```",
    9: "<symbol1>F</symbol1><symbol2>$B$</symbol2>",
    10: "<analysis>none</analysis><verdict>no</verdict>",
}
MARKS = ("Derive one", "Work out", "", "Choose one", "Compare a", "", "prints B - A", "the value of", "", "Propose")
SHARED = "use the same"  # of the last step


class Scripted:
    """A policy that recognises each question by its first words, and has no room for those about some problem."""

    def __init__(self, tokenizer: Any, too_long: str = "\0", broken: str = "\0") -> None:
        self.template = ChatTemplate(tokenizer)
        self.too_long, self.broken = too_long, broken

    async def generate(self, token_ids: Sequence[int], sampling: Sampling, seed: int) -> Completion:
        text = self.template.tokenizer.decode(token_ids)
        if "Derive one" in text and self.too_long in text:
            raise RequestError("the prompt has 900 tokens; with a context of 512 at most 511 fit")
        if "Derive one" in text and self.broken in text:
            raise ValueError("the engine broke")
        step = next(number for number, mark in enumerate((*MARKS, SHARED)) if mark and mark in text)
        ids = np.array([1], np.int32)
        return Completion(
            token_ids=ids,
            logprobs=np.zeros(1, np.float32),
            versions=ids * 0,
            stop=StopReason.EOS,
            text=REPLIES[step],
        )


def composing() -> ComposeRollout:
    """The strategy, made as `RolloutWorker` makes every one."""
    node = {"_target_": "raylign.recipes.composition_rl.ComposeRollout", "timeout_s": 3.0}
    strategy = build(RolloutStrategy, node, "rollout.strategy", environments=None)
    assert isinstance(strategy, ComposeRollout)
    return strategy


def tiny_tokenizer(folder: Path) -> Any:
    shape = TinyModel(hidden_size=16, layers=1, heads=1, kv_heads=1, head_dim=16, intermediate_size=16, context=256)
    return AutoTokenizer.from_pretrained(build_tiny_model(shape, folder))


def prompt(seed: Chain, template: ChatTemplate) -> Prompt:
    messages = ({"role": "user", "content": seed.text},)
    ids = np.asarray(template.prompt_ids(messages), np.int32)
    return Prompt(id=seed.id, messages=messages, token_ids=ids, answer=seed.answer, domain=seed.domain)
