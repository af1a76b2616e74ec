"""The task of scale=tiny: two sums modulo 5 with a unit, and strategies of a letter and a digit.

    question  3+4+1mk       solver    2;3mk    first result, then the answer with its unit
                            verifier  r9       recompute the answer modulo 9

| letter | the judge accepts where                                | letter | the judge accepts where            |
|--------|--------------------------------------------------------|--------|------------------------------------|
| r      | the answer is right modulo the digit (below 2: by 5)    | u      | the unit is right                  |
| p      | the answer is even or odd as it must be                 | d      | the solution is in form            |
| b      | the answer lies on the right side of the digit          | a      | always                             |
| s      | the first result is right                               | x      | by chance                          |

The base model imitates solutions with random errors and strategies of every kind, so that a majority of strategies can
outvote the errors: errors that all samples share no consensus could find.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import product
from typing import Any

import numpy as np
from numpy.typing import NDArray

from raylign.actors.reward.response import ResponseReward
from raylign.chat.template import ChatTemplate
from raylign.contracts import Embedder, Measure, RowGenerator, Sampling, View
from raylign.data.questions import question_of, reworded
from raylign.data.rows import DataRow
from raylign.errors import DataError, JudgeUnavailable
from raylign.recipes.sci_coe.prompts import judged_texts
from raylign.recipes.sci_coe.roles import VERIFIES, role_of
from raylign.records import Float32s, Group, Message, Prompt, Value, derive_seed

MODULUS = 5
UNITS = tuple(map("".join, product("mskgnvwhcjltfqey", repeat=2)))  # so many that no question is learned by heart
KINDS = "rpbsudax"
IDLE = "ax"  # kinds that tell nothing of a solution
SOLVER, VERIFIER = "{question}?", "{question}!"
QUESTION = re.compile(r"([0-4])\+([0-4])\+([0-4])([a-z]{2})")
SOLUTION = re.compile(r"(\d);(\d)([a-z]{2})")
LABELLED, UNLABELLED = "labelled", "unlabelled"


class TwoSteps(RowGenerator):
    """Different questions, a share `labelled` of them of the domain ``labelled``, the others ``unlabelled``.

    All have their answers: what does not see them is the stage that is asked without.
    """

    @dataclass
    class Config:
        """How many have labels that the first stage sees."""

        labelled: float = 0.05

        def __post_init__(self) -> None:
            if not 0 < self.labelled < 1:
                raise ValueError(f"labelled={self.labelled} is a share, and both stages need some: between 0 and 1")

    config: Config

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """`size` questions, or all 32,000 for 0, in a random order."""
        every = list(product(range(MODULUS), range(MODULUS), range(MODULUS), UNITS))
        order = np.random.default_rng([seed, 2602, 12164]).permutation(len(every))
        share = self.config.labelled
        for number, code in enumerate(order[: size or None]):
            first, second, third, unit = every[code]
            question = f"{first}+{second}+{third}{unit}"
            yield DataRow(
                messages=({"role": "user", "content": question},),
                place=f"two steps {question}",
                answer=worked(question)[1],
                domain=LABELLED if int((number + 1) * share) > int(number * share) else UNLABELLED,
            )


class Demonstrations(View):
    """What the base model imitates: of every question some solutions and some strategies, both in their role's prompt.

    A solution's unit, first result and answer are random ones now and then; strategies are of all kinds alike.
    """

    @dataclass
    class Config:
        """How many of each, and the chances of an error."""

        each: int = 2
        wrong_answer: float = 0.3
        wrong_step: float = 0.1
        wrong_unit: float = 0.1

        def __post_init__(self) -> None:
            if self.each < 1 or not all(0 <= p <= 1 for p in (self.wrong_answer, self.wrong_step, self.wrong_unit)):
                raise ValueError(f"each={self.each} must be 1 or more, and chances of an error between 0 and 1")

    def __init__(self, config: Config, tokenizer: ChatTemplate, seed: int) -> None:
        super().__init__(config)
        self._template, self._seed = tokenizer, seed

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """2 `each` prompts with their targets for every question."""
        made: list[Prompt] = []
        for prompt in prompts:
            rng = np.random.default_rng(derive_seed(self._seed, prompt.id, "demonstrations"))
            for number in range(self.config.each):
                for template, target in ((SOLVER, self._solution(prompt, rng)), (VERIFIER, _strategy(rng))):
                    asked = reworded(prompt, template.replace("{question}", question_of(prompt)), self._template)
                    name = f"{prompt.id} {template[-1]}{number}"
                    made.append(replace(asked, id=name, meta={**asked.meta, "target": target}))
        return made

    def _solution(self, prompt: Prompt, rng: np.random.Generator) -> str:
        question = question_of(prompt)
        first, answer = worked(question)
        if rng.random() < self.config.wrong_step:
            first = str(rng.integers(MODULUS))
            answer = f"{_second(first, question)}{answer[1:]}"
        digit = str(rng.integers(MODULUS)) if rng.random() < self.config.wrong_answer else answer[0]
        unit = str(rng.choice(UNITS)) if rng.random() < self.config.wrong_unit else answer[1:]
        return f"{first};{digit}{unit}"


class TwoStepAnswer(ResponseReward):
    """1 where what stands behind the semicolon is the answer with its unit, else 0."""

    @dataclass
    class Config:
        """No settings."""

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Compare. Raises DataError on a prompt of another task."""
        if prompt.answer is None or len(str(prompt.answer)) != 3:
            raise DataError(f"the answer {prompt.answer!r} is none of the two-step task")
        said = SOLUTION.fullmatch(response.strip())
        return Value(score=float(said is not None and f"{said[2]}{said[3]}" == prompt.answer))

    def gold(self, prompt: Prompt) -> str | None:
        """The answer behind any first result."""
        return f"0;{prompt.answer}"

    def wrong(self, prompt: Prompt) -> str | None:
        """The answer without its form."""
        return str(prompt.answer)


class KindDirections(Embedder):
    """A direction for each kind of strategy and a smaller part for its digit, as an embedding model sees texts that say
    the same with another number. What decides by chance says something else with every text.
    """

    @dataclass
    class Config:
        """How long the digit's part is beside the kind's, whose length is 1."""

        digit: float = 0.4
        dimensions: int = 16

        def __post_init__(self) -> None:
            if self.digit < 0 or self.dimensions < 2:
                raise ValueError(f"digit={self.digit} must be 0 or more, dimensions={self.dimensions} 2 or more")

    @property
    def identity(self) -> str:
        """See `Embedder.identity`."""
        return f"kinds of strategies {self.config}"

    def embed(self, texts: Sequence[str]) -> Float32s:
        """See `Embedder.embed`."""
        self.counts.asked += len(texts)
        self.counts.computed += len(texts)
        vectors = np.array([self._vector(text) for text in texts]).reshape(len(texts), self.config.dimensions)
        return np.asarray(vectors / np.linalg.norm(vectors, axis=1, keepdims=True), np.float32)

    def _vector(self, text: str) -> NDArray[np.float64]:
        kind = text[:1] if text[:1] in KINDS and text[:1] != "x" else text
        parts = [
            np.random.default_rng(derive_seed(0, *name)).normal(size=self.config.dimensions)
            for name in (("kind", kind), ("digit", text[1:]))
        ]
        first, second = (part / np.linalg.norm(part) for part in parts)
        return np.asarray(first + self.config.digit * second, np.float64)


class Kinds(Measure):
    """``entropy`` (nats) of the letters of all strategies, and the share of those that tell nothing, ``idle``."""

    @dataclass
    class Config:
        """No settings."""

    def metrics(self, groups: Sequence[Group]) -> dict[str, float]:
        """Nothing without a strategy."""
        texts = [t.text.strip() for group in groups for t in group.trajectories if role_of(t) == VERIFIES]
        if not texts:
            return {}
        kinds = [text[:1] if text[:1] in KINDS else "x" for text in texts]
        shares = np.array([kinds.count(kind) for kind in KINDS]) / len(kinds)
        some = shares[shares > 0]
        return {"entropy": float(-np.sum(some * np.log(some))), "idle": sum(map(kinds.count, IDLE)) / len(kinds)}


def judge(messages: Sequence[Message], sampling: Sampling, seed: int, **settings: Any) -> str:
    """A judge that carries out strategies exactly; what is none it decides by chance.

    settings: ``mute``, the chance of a reply without a verdict, and ``absent``, that of none.
    """
    rng = np.random.default_rng(seed)
    mute, absent = (rng.random() < float(settings.get(name, 0.0)) for name in ("mute", "absent"))
    if absent:
        raise JudgeUnavailable("this judge is absent now and then")
    if mute:
        return "This is hard to say."
    question, solution, strategy = judged_texts(str(messages[-1]["content"]))
    return "CORRECT" if accepts(question, solution, strategy, bool(rng.random() < 0.5)) else "INCORRECT"


def accepts(question: str, solution: str, strategy: str, chance: bool) -> bool:
    """See the table above. chance: what the toss of a coin says."""
    kind, digit = strategy[:1], int(strategy[1]) if strategy[1:2].isdigit() else 0
    said = SOLUTION.fullmatch(solution.strip())
    if kind == "a":
        return True
    if kind not in KINDS or kind == "x":
        return chance
    if said is None:
        return False
    first, answer = worked(question)
    given, right = int(said[2]), int(answer[0])
    modulus = digit if digit > 1 else MODULUS
    checks = {
        "r": given % modulus == right % modulus,
        "p": given % 2 == right % 2,
        "b": (given >= digit) == (right >= digit),
        "s": said[1] == first,
        "u": said[3] == answer[1:],
        "d": True,
    }
    return checks[kind]


def worked(question: str) -> tuple[str, str]:
    """The first result and the answer with its unit. Raises DataError on a question of another task."""
    asked = QUESTION.fullmatch(question)
    if asked is None:
        raise DataError(f"{question!r} is no question of the two-step task")
    left, right, _, unit = asked.groups()
    first = str((int(left) + int(right)) % MODULUS)
    return first, f"{_second(first, question)}{unit}"


def _second(first: str, question: str) -> int:
    return (int(first) + int(question[4])) % MODULUS


def _strategy(rng: np.random.Generator) -> str:
    return f"{rng.choice(list(KINDS))}{rng.integers(10)}"
