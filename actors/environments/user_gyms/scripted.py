"""A user by rule: answers from the words that question and secret share. For laptops and tests, not for results."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence

from raylign.contracts import Sampling
from raylign.errors import JudgeUnavailable
from raylign.records import Message, derive_seed

FILLING = "a an and are as at by did do does for from has have he in is it its of on or she that the to was"
COMMON = frozenset(FILLING.split(" "))  # words that tell nothing
HALF, WHOLE = 0.3, 0.6  # share of a criterion's words that earn a half, and a whole mark


def rule_user(messages: Sequence[Message], sampling: Sampling, seed: int, absent: float = 0.0) -> str:
    """The answer of a `JudgedGym`'s user. absent: share of questions, by their words, that nobody answers."""
    asked = json.loads(str(messages[-1]["content"]))
    if derive_seed(0, str(messages[-1]["content"])) / 2**63 < absent:
        raise JudgeUnavailable("this user is absent now and then")
    said = words(asked["said"])
    if "criteria" in asked:
        shares = [_share(words(point), said) for point in asked["criteria"]]
        marks = [1 if share >= WHOLE else 0.5 if share >= HALF else 0 for share in shares]
        return json.dumps({"thought": "", "scores": marks})
    if "`match`" in str(messages[0]["content"]):
        return json.dumps({"thought": "", "match": words(asked["entity"]) <= said and len(said) <= 6})
    secret = words(" ".join(str(value) for key, value in asked.items() if key not in ("said", "surface")))
    return json.dumps({"thought": "", "answer": "Yes" if said & secret else "No"})


def words(text: str) -> frozenset[str]:
    """The words of a text that mean something, in small letters."""
    return frozenset(re.findall(r"[a-z0-9]+", text.lower())) - COMMON


def _share(wanted: frozenset[str], said: frozenset[str]) -> float:
    return len(wanted & said) / max(len(wanted), 1)
