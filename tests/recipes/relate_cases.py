"""Ads of RELATE's toy as they are sampled, and its parts with plain settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from raylign.chat.template import ChatTemplate
from raylign.config.build import build
from raylign.contracts import PlacedRow
from raylign.recipes.relate import GranularCredit, Semantics, Structure, TwoHeads
from raylign.records import Group, Prompt, Reward, StopReason, Trajectory, Value
from raylign.testing import call, group, prompt, trajectory

PRODUCT = "abc"
WEIGHTS = {"structure": 1.0, "semantic": 0.0, "ctcvr": 3.0}
TOY_FIELDS = {"fields": {"title": [1, 10], "description": [4, 10]}, "separator": ";", "slack": 1.0}
BANNED = ["!", "$", "%", "&"]
RELATE = "raylign.recipes.relate"
SCRIPTED = "raylign.actors.judge.scripted.Scripted"


def asked(number: int = 0, product: str = PRODUCT, **fields: Any) -> Prompt:
    return prompt(number, text=f"{product}{number:04d}", meta={"product": product, **fields.pop("meta", {})}, **fields)


def said(template: ChatTemplate, text: str, ended: bool = True, **rewards: Reward | float) -> Trajectory:
    ids = [*template.codec.encode(text), *([min(template.ends)] if ended else [])]
    stop = StopReason.EOS if ended else StopReason.LENGTH
    return trajectory(call(text, ids, stop=stop), rewards=rewards)


def judge(function: str = "raylign.recipes.relate.toy.judge", **settings: Any) -> dict[str, Any]:
    return {"model": {"_target_": SCRIPTED, "function": function, "settings": settings}}


def semantics(**settings: Any) -> Semantics:
    return build(Semantics, {"_target_": f"{RELATE}.Semantics", "whole_words": False, **settings}, "fn")


def shaper(template: ChatTemplate, weights: dict[str, float] | None = None, **settings: Any) -> GranularCredit:
    node = {"_target_": f"{RELATE}.GranularCredit", "scale": "none", "exempt": [";"], **settings}
    made_with = {"max_tokens": 13, "tokenizer": template, "seed": 0}
    return build(GranularCredit, node, "shaper", weights=WEIGHTS if weights is None else weights, **made_with)


def rewarded(template: ChatTemplate, texts: Sequence[str], asks: Prompt, ctcvr: Sequence[float]) -> Group:
    """A group with rewards of the recipe's own structure and semantics."""
    structure, semantic = Structure(Structure.Config(**TOY_FIELDS)), semantics(banned=BANNED, judge=judge())
    samples = [said(template, text) for text in texts]
    return group(
        *(
            trajectory(
                *sample.calls,
                rewards={
                    "structure": structure.score(asks, [sample])[0],
                    "semantic": semantic.score(asks, [sample])[0],
                    "ctcvr": Value(score=conversion),
                },
            )
            for sample, conversion in zip(samples, ctcvr, strict=True)
        ),
        prompt=asks,
    )


def two_heads(**settings: Any) -> TwoHeads:
    plain = {"_target_": f"{RELATE}.TwoHeads", "separator": ";", "buckets": 256, "hidden": 8}
    return build(TwoHeads, {**plain, **settings}, "fn")


def log(number: int = 0, **columns: Any) -> PlacedRow:
    plain = {"context": "abc0000", "title": "aA", "desc": "bIJK", "impressions": 50, "clicks": 10, "conversions": 2}
    return PlacedRow(f"logs.jsonl:{number + 1}", {**plain, **columns})


def on_ads(rng: np.random.Generator, count: int) -> list[str]:
    """Random ads of one product."""
    letters = list("abcdeABIJKL!")
    return [
        "".join(rng.choice(letters, rng.integers(1, 5))) + ";" + "".join(rng.choice(letters, rng.integers(4, 7)))
        for _ in range(count)
    ]
