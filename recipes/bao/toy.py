"""The teacher of scale=tiny: a script that plays `SmallFunctions` as its instructions tell it, or without any.

asked  34            what is the rule p a + q b at 3, 4, modulo 5?
says   ?10    2      p = 2
says   2?01   3      q = 3; the thought is what is known: p
says   231342!3      2 * 3 = 1 and 3 * 4 = 2, together 3
"""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field

from raylign.actors.environments.user_gyms.protocol import Act as Turn
from raylign.actors.environments.user_gyms.protocol import Choice, Form, read_act, write_act
from raylign.actors.environments.user_gyms.small import FACTORS, MODULUS
from raylign.contracts import Sampling
from raylign.errors import JudgeUnavailable
from raylign.records import Message


@dataclass(slots=True)
class Known:
    """What a conversation has shown. `rules`: (p, q) that agree with it."""

    test: tuple[int, int]
    rules: set[tuple[int, int]]
    tried: set[int] = field(default_factory=set)  # answers that were wrong
    answered: bool = False  # in the last turn

    @property
    def values(self) -> list[int]:
        """What the rules that are left give at the test input."""
        return sorted({value(rule, self.test) for rule in self.rules})

    @property
    def memory(self) -> str:
        """p where it is known; with q as well, the two products that make the value, each after its factors."""
        ps, qs = ({rule[place] for rule in self.rules} for place in (0, 1))
        if len(ps) > 1:
            return ""
        p, q = min(ps), min(qs)
        if len(qs) > 1:
            return str(p)
        return "".join(f"{factor}{at}{factor * at % MODULUS}" for factor, at in zip((p, q), self.test, strict=True))


def value(rule: tuple[int, int], at: tuple[int, int]) -> int:
    """The rule's value."""
    return (rule[0] * at[0] + rule[1] * at[1]) % MODULUS


def teacher(messages: Sequence[Message], sampling: Sampling, seed: int, hasty: float = 0.35) -> str:
    """The next turn. With instructions (a system message) it tries one letter at a time, remembers, and answers what it
    knows; with chance `hasty` it begins to guess, and goes on so. Without, it tries and guesses at random, and never
    thinks.
    """
    rng = random.Random(seed)
    known = read(messages)
    if messages[0]["role"] != "system":
        if rng.random() < 0.4:
            return write_act(Choice.action, rng.choice(("10", "01", "11", "20", "02", "12")), Form.marks)
        return _answer(rng.choice([digit for digit in range(MODULUS) if digit not in known.tried]))
    if len(known.values) == 1:
        return _answer(known.values[0], known.memory)
    begun = len(known.rules) < len(FACTORS) ** 2
    if known.answered or (begun and rng.random() < hasty):
        return _answer(rng.choice(known.values), known.memory)
    return write_act(Choice.action, "01" if len(known.memory) == 1 else "10", Form.marks, known.memory)


def read(messages: Sequence[Message]) -> Known:
    """What a conversation has shown so far."""
    said = [message for message in messages if message["role"] != "system"]
    digits = str(said[0]["content"])
    if len(digits) != 2 or not digits.isdigit():
        raise JudgeUnavailable("the toy's teacher plays SmallFunctions only; set stages.teach=null stages.sft=null")
    known = Known((int(digits[0]), int(digits[1])), {(p, q) for p in FACTORS for q in FACTORS})
    for turn, heard in zip(said[1::2], said[2::2], strict=True):
        act, answer = read_act(str(turn["content"]), Form.marks), str(heard["content"])
        assert isinstance(act, Turn), "this teacher writes acts"
        known.answered = act.choice is Choice.answer
        if known.answered:
            known.tried.add(int(act.content))
            known.rules = {rule for rule in known.rules if value(rule, known.test) != int(act.content)}
        elif answer.isdigit():
            at = (int(act.content[0]), int(act.content[1]))
            known.rules = {rule for rule in known.rules if value(rule, at) == int(answer)}
    return known


def _answer(digit: int, memory: str = "") -> str:
    return write_act(Choice.answer, str(digit), Form.marks, memory)
