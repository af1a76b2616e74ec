"""The composer that asks a language model: eleven steps with self-verification; any failed step drops the pair.

| step | asks for | drops the pair as |
|---|---|---|
| 0 | v1, its definition | tags_missing, value_none, leak |
| 1, 2 | v1 again from answer and definition; a program compares the two | v1_not_recovered |
| 3 | v2, its definition, the modified q2 | tags_missing, value_none, shortened |
| 4, 5 | v2 again from q2 and the modified q2; a program compares | v2_not_recovered |
| 6 | a program for delta = v2 - v1 | program_failed, program_refused |
| 7, 8 | a program for v2 from v1 and the relation; a program compares | link_wrong |
| 9 | two variable symbols | tags_missing, symbol_clash |
| 10 | whether the two texts share a symbol: the verdict filters (the released code only counts it) | symbol_clash |

A program that fails is asked for anew at most twice; equal strings need no program.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass
from typing import TypeVar

from . import prompts
from .chain import Chain, Link, Reason
from .drive import Ask, Request, RunProgram, Work
from .operation import assemble, distinct, joined, relation_sentence, side_by_side
from .programs import FAILED, REFUSED
from .prompts import ONE, TWO
from .replies import Dropped, code_of, field, last_boxed, value_of
from .symbolic import leaks
from .symbols import variables

T = TypeVar("T")
Step = Generator[Request, str, T]
SYMBOL = re.compile(r"[A-Za-z]|\\[A-Za-z]+")


class LlmComposer:
    """Composes by asking; see the table above. It holds no engine: the caller (`drive`) answers its requests."""

    @dataclass
    class Config:
        """Limits of repetition."""

        retries: int = 2  # further programs asked for when one fails

    def __init__(self, config: Config) -> None:
        self.config = config

    def work(self, first: Chain, second: Chain) -> Work:
        """The requests of the eleven steps; returns the chain or the rejection of the step that failed."""
        shared = distinct(first, second)
        if shared is not None:
            return shared
        try:
            value1, definition = yield from self._first(first)
            value2, modified = yield from self._second(second)
            delta = yield from self._link(value1, value2)
            symbols = yield from self._symbols(f"{first.text} {definition}", modified, second)
        except Dropped as dropped:
            return dropped.rejected
        link = Link(
            symbol1=symbols[0],
            value1=value1,
            definition=_named(definition, ONE, symbols[0]),
            symbol2=symbols[1],
            value2=value2,
            delta=delta,
            relation=relation_sentence(symbols[1], delta, symbols[0]),
        )
        text = assemble(first.text, link.definition, link.relation, _named(modified, TWO, symbols[1]))
        return joined(first, second, link, text, (0, len(first.text)))

    def _first(self, first: Chain) -> Step[tuple[str, str]]:
        """Steps 0 to 2: v1 and its definition."""
        reply = yield Ask(step=0, text=prompts.EXTRACT_FIRST.format(problem=first.text, answer=first.answer))
        value, definition = value_of(reply), field(reply, "definition")
        if ONE not in definition:
            raise Dropped(Reason.TAGS_MISSING, f"the definition does not name {ONE}")
        if leaks(definition, value, first.text):
            raise Dropped(Reason.LEAK, definition)
        text = prompts.RECOMPUTE_FIRST.format(problem=first.text, answer=first.answer, definition=definition)
        again = last_boxed((yield Ask(step=1, text=text)))
        if again is None or not (yield from self._equal(2, value, again)):
            raise Dropped(Reason.V1_NOT_RECOVERED, f"{value} and {again}")
        return value, definition

    def _second(self, second: Chain) -> Step[tuple[str, str]]:
        """Steps 3 to 5: v2 and the modified text. Only the first sub-problem's own words may change."""
        start, end = second.own
        own = second.text[start:end]
        reply = yield Ask(step=3, text=prompts.EXTRACT_SECOND.format(problem=own))
        value, changed = value_of(reply), field(reply, "modified")
        field(reply, "definition")
        if TWO not in changed:
            raise Dropped(Reason.TAGS_MISSING, f"the modified text does not name {TWO}")
        if len(changed) < len(own):
            raise Dropped(Reason.SHORTENED, f"{len(own)} letters became {len(changed)}")
        again = last_boxed((yield Ask(step=4, text=prompts.RECOVER_SECOND.format(problem=own, modified=changed))))
        if again is None or not (yield from self._equal(5, value, again)):
            raise Dropped(Reason.V2_NOT_RECOVERED, f"{value} and {again}")
        return value, second.text[:start] + changed + second.text[end:]

    def _link(self, value1: str, value2: str) -> Step[str]:
        """Steps 6 to 8: delta, proven by going back along the link."""
        delta = yield from self._program(6, prompts.DIFFERENCE.format(first=value1, second=value2))
        relation = f"{TWO} is {delta} more than {ONE}."
        ask = prompts.FOLLOW_LINK.format(one=ONE, two=TWO, first=value1, relation=relation)
        reached = yield from self._program(7, ask)
        if not (yield from self._equal(8, value2, reached)):
            raise Dropped(Reason.LINK_WRONG, f"{value1} + {delta} gives {reached}, not {value2}")
        return delta

    def _symbols(self, first: str, modified: str, second: Chain) -> Step[tuple[str, str]]:
        """Steps 9 and 10: two names, and the verdict on shared ones."""
        reply = yield Ask(step=9, text=prompts.SYMBOLS.format(first=first, second=modified))
        one, two = (field(reply, name).strip("$ ") for name in ("symbol1", "symbol2"))
        if not SYMBOL.fullmatch(one) or not SYMBOL.fullmatch(two):
            raise Dropped(Reason.TAGS_MISSING, f"{one!r} and {two!r} are no symbols")
        used = second.symbols | variables(first) | variables(modified)
        if one == two or {one, two, one.lstrip("\\"), two.lstrip("\\")} & used:
            raise Dropped(Reason.SYMBOL_CLASH, f"{one} and {two} are in use")
        texts = _named(first, ONE, one), _named(modified, TWO, two)
        reply = yield Ask(step=10, text=prompts.SHARED.format(first=texts[0], second=texts[1]))
        if not field(reply, "verdict").lower().startswith("no"):
            raise Dropped(Reason.SYMBOL_CLASH, "the verdict of step 10")
        return one, two

    def _equal(self, step: int, first: str, second: str) -> Step[bool]:
        if "".join(first.split()) == "".join(second.split()):
            return True
        printed = yield from self._program(step, prompts.COMPARE.format(first=first, second=second))
        return printed == "True"

    def _program(self, step: int, text: str) -> Step[str]:
        """What a generated program prints; asked for anew when it fails, at most `retries` times."""
        printed = ""
        for attempt in range(self.config.retries + 1):
            reply = yield Ask(step=step, text=text, attempt=attempt)
            printed = yield RunProgram(step=step, code=code_of(reply))
            if not printed.startswith((FAILED, REFUSED)):
                return printed
        reason = Reason.PROGRAM_REFUSED if printed.startswith(REFUSED) else Reason.PROGRAM_FAILED
        raise Dropped(reason, f"step {step}: {printed}")


def least_tokens(problems: Sequence[Chain], tokens: Callable[[str], int]) -> int:
    """Tokens of the longest question about the last link of a chain, the first problem's, without what replies add.

    Who answers must have room for it, or no chain of such problems can be made. tokens: of a question.
    """
    first, own, second = problems[0], problems[1].text, side_by_side(problems[1:])
    questions = (
        prompts.EXTRACT_FIRST.format(problem=first.text, answer=first.answer),
        prompts.RECOMPUTE_FIRST.format(problem=first.text, answer=first.answer, definition=ONE),
        prompts.EXTRACT_SECOND.format(problem=own),
        prompts.RECOVER_SECOND.format(problem=own, modified=own),
        prompts.SYMBOLS.format(first=first.text, second=second.text),
        prompts.SHARED.format(first=first.text, second=second.text),
    )
    return max(map(tokens, questions))


def tokens_between(
    slots: Sequence[Sequence[Chain]], size: Callable[[Chain], int], tokens: Callable[[str], int]
) -> tuple[int, int]:
    """`least_tokens` of the smallest problems of all slots, and of the largest."""
    smallest, largest = ([end(slot, key=size) for slot in slots] for end in (min, max))
    return least_tokens(smallest, tokens), least_tokens(largest, tokens)


def _named(text: str, placeholder: str, symbol: str) -> str:
    r"""The text with the placeholder replaced: ``{P}`` in mathematics, ``$P$`` where no dollar stands around it."""
    bare = "{" + symbol + "}" if len(symbol) > 1 else symbol
    text = text.replace(f"${placeholder}$", f"${symbol}$").replace("{" + placeholder + "}", "{" + symbol + "}")
    pieces = text.split(placeholder)
    result = pieces[0]
    for piece in pieces[1:]:
        result += (
            bare if result.count("$") % 2 or result.count("\\[") > result.count("\\]") else f"${symbol}$"
        ) + piece
    return result
