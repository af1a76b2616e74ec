"""The task of scale=tiny: sums of two steps modulo 10, worked in one's own format or in that of a foreign expert.

    question   3*4+8?                      left to right: 2, then 0; ``*`` is what the base model cannot do
    own        3*4=2,2+8=0                 how the base model works sums out that it can do (``+`` and ``-``)
    expert     see <4^3|2> then <8&2|0>    other signs, other order of digits, words in between
    brackets   (3*4)2(2+8)0                a third way

Beside these the base model learns four general tasks on numbers of four digits, which later training may erase:
``c0391`` copies, ``r`` reverses, ``s`` sorts, ``p`` says whether the number is even (e) or odd (o). Those whose digits
add up to a multiple of 5 are never trained on. Products within its own worked sums are random digits, so that it
has the format of the new questions and not their answers.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from raylign.actors.reward.response import ResponseReward
from raylign.chat.template import ChatTemplate
from raylign.contracts import RowGenerator, View
from raylign.data.questions import question_of
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.recipes.rewriter.prompts import Rewriting
from raylign.records import Prompt, Value, derive_seed

NEW = ("**", "*+", "+*")  # pairs of operations: those of the training set,
KNOWN = ("++", "+-", "-+", "--")  # and those that the base model can do
FOREIGN = {"*": "^", "+": "&", "-": "~"}
QUESTION = re.compile(r"(\d)([*+-])(\d)([*+-])(\d)\?")
HELD_OUT = 5  # of general prompts: digits add up to a multiple of it
GENERAL: Mapping[str, Callable[[str], str]] = {
    "copy": lambda digits: digits,
    "reverse": lambda digits: digits[::-1],
    "sort": lambda digits: "".join(sorted(digits)),
    "parity": lambda digits: "eo"[int(digits[-1]) % 2],
}


class Work(NamedTuple):
    """Two steps: ``a op b`` is `middle`, ``middle then c`` is `result`."""

    a: int
    op: str
    b: int
    middle: int
    then: str
    c: int
    result: int


FORMATS: Mapping[str, Callable[[Work], str]] = {
    "own": lambda w: f"{w.a}{w.op}{w.b}={w.middle},{w.middle}{w.then}{w.c}={w.result}",
    "expert": lambda w: (
        f"see <{w.b}{FOREIGN[w.op]}{w.a}|{w.middle}> then <{w.c}{FOREIGN[w.then]}{w.middle}|{w.result}>"
    ),
    "brackets": lambda w: f"({w.a}{w.op}{w.b}){w.middle}({w.middle}{w.then}{w.c}){w.result}",
}


def worked(question: str, rng: np.random.Generator | None = None) -> Work:
    """The steps of a question. rng: products are drawn from it. Raises DataError on a question of another task."""
    asked = QUESTION.fullmatch(question)
    if asked is None:
        raise DataError(f"{question!r} is no question of the toy task")
    a, b, c = (int(asked[number]) for number in (1, 3, 5))
    middle = _step(a, asked[2], b, rng)
    return Work(a, asked[2], b, middle, asked[4], c, _step(middle, asked[4], c, rng))


def _step(left: int, op: str, right: int, rng: np.random.Generator | None) -> int:
    if op == "*" and rng is not None:
        return int(rng.integers(10))
    return {"+": left + right, "-": left - right, "*": left * right}[op] % 10


class Products(RowGenerator):
    """The 3,000 questions with a product, in a random order, each with the expert's solution."""

    @dataclass
    class Config:
        """No settings."""

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """`size` questions, or all of them for 0."""
        every = list(product(NEW, range(10), range(10), range(10)))
        order = np.random.default_rng([seed, 2602, 11220]).permutation(len(every))
        for number in order[: size or None]:
            (first, second), a, b, c = every[number]
            question = f"{a}{first}{b}{second}{c}?"
            work = worked(question)
            yield DataRow(
                messages=({"role": "user", "content": question},),
                place=f"toy {question}",
                answer=str(work.result),
                target=FORMATS["expert"](work),
                verifier="gsm8k",
                domain="products",
            )


class General(View):
    """In place of a question one prompt of each general task, on a number that nothing is trained on."""

    @dataclass
    class Config:
        """No settings."""

    def __init__(self, config: Config, *, tokenizer: ChatTemplate, seed: int) -> None:
        super().__init__(config)
        self._template, self._seed = tokenizer, seed

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`."""
        made: list[Prompt] = []
        for prompt in prompts:
            rng = np.random.default_rng(derive_seed(self._seed, prompt.id, "general"))
            made += [self._asked(prompt, task, _number(rng, held_out=True)) for task in GENERAL]
        return made

    def _asked(self, prompt: Prompt, task: str, digits: str) -> Prompt:
        answer = GENERAL[task](digits)
        meta = {"verifier": "exact", "target": answer}
        name = f"{prompt.id} {task} {digits}"
        return shown(prompt, f"{task[0]}{digits}", self._template, id=name, answer=answer, domain=task, meta=meta)


class Pretraining(General):
    """What the base model imitates: of every question general tasks, sums that it can do, and one with products that
    are random digits; the last two in its own format.
    """

    @dataclass
    class Config:
        """How many of each, for every question of the training set."""

        general: int = 1  # of each task
        sums: int = 3
        products: int = 2

    config: Config

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`."""
        made: list[Prompt] = []
        for prompt in prompts:
            rng = np.random.default_rng(derive_seed(self._seed, prompt.id, "pretraining"))
            for number in range(self.config.general):
                made += [
                    replace(self._asked(prompt, task, _number(rng, held_out=False)), id=f"{prompt.id} {task} {number}")
                    for task in GENERAL
                ]
            for number in range(self.config.sums + self.config.products):
                pair = str(rng.choice(KNOWN))
                a, b, c = rng.integers(10, size=3)
                asked = f"{a}{pair[0]}{b}{pair[1]}{c}?" if number < self.config.sums else question_of(prompt)
                target = FORMATS["own"](worked(asked, rng))
                name, meta = f"{prompt.id} {number} {asked}", {"verifier": "", "target": target}
                made.append(shown(prompt, asked, self._template, id=name, answer=None, domain="worked", meta=meta))
        return made


class MixedRewrites(Rewriting):
    """Rewriting prompts with right rewrites in the three formats alike: what the rewriter starts from."""

    @dataclass
    class Config(Rewriting.Config):
        """As `Rewriting`, and which formats."""

        template: str = "{question}{solution}"

    def __init__(self, config: Config, *, tokenizer: ChatTemplate, seed: int) -> None:
        super().__init__(config, tokenizer=tokenizer, seed=seed)
        self._seed = seed

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`."""
        return [self._with_rewrite(prompt) for prompt in super().prompts(prompts)]

    def _with_rewrite(self, prompt: Prompt) -> Prompt:
        rng = np.random.default_rng(derive_seed(self._seed, prompt.id, "rewrites"))
        target = FORMATS[str(rng.choice(list(FORMATS)))](worked(question_of(prompt)))
        meta = {**prompt.meta, "target": target}
        return replace(prompt, meta=meta)


class RightSteps(ResponseReward):
    """The scripted check of reasoning: 1 where the digits of a text are those of both steps done right, in the order of
    one of the formats, whatever stands between them; else 0.
    """

    @dataclass
    class Config:
        """No settings."""

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare digits. Raises DataError on a question of another task."""
        work = worked(question_of(prompt))
        right = {digits_of(form(work)) for form in FORMATS.values()}
        return Value(score=float(digits_of(response) in right))

    def gold(self, prompt: Prompt) -> str | None:
        """The base model's own format."""
        return FORMATS["own"](worked(question_of(prompt)))

    def wrong(self, prompt: Prompt) -> str | None:
        """The result alone."""
        return str(worked(question_of(prompt)).result)


def digits_of(text: str) -> str:
    """Its digits, in their order."""
    return "".join(re.findall(r"\d", text))


def format_of(text: str, question: str) -> str:
    """The format whose right text this is; "other" for any other text."""
    work = worked(question)
    return next((name for name, form in FORMATS.items() if form(work) == text.strip()), "other")


def shown(prompt: Prompt, asked: str, template: ChatTemplate, **changes: Any) -> Prompt:
    """A prompt with another question. changes: further fields."""
    messages = ({"role": "user", "content": asked},)
    ids = np.asarray(template.prompt_ids(messages), np.int32)
    return replace(prompt, messages=messages, token_ids=ids, **changes)


def _number(rng: np.random.Generator, held_out: bool) -> str:
    """Four digits, of those that are trained on or of those that never are."""
    while True:
        digits = rng.integers(10, size=4)
        if (int(digits.sum()) % HELD_OUT == 0) is held_out:
            return "".join(map(str, digits))
