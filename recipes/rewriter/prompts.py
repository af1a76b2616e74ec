r"""Views of problems with solutions: the gold answer that a solution states, and the prompt that asks to rewrite it.

The gold answer is the row's own; where the row's answer is the whole solution it is the one that this states
(`stated`): in its last complete ``\boxed{}``, in words, else its last number. Rows with but a last number are counted;
a row without any answer cannot be verified: it is left out, and counted.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from string import Formatter
from typing import Any, NamedTuple

import numpy as np

from raylign.chat.messages import ASSISTANT
from raylign.chat.template import ChatTemplate
from raylign.contracts import View
from raylign.data.questions import question_of, reworded
from raylign.errors import DataError
from raylign.recipes.rewriter.bare import BARE, EXPERT, solution_of
from raylign.recipes.rewriter.stated import stated_answer
from raylign.records import Prompt

REWRITE = r"""Here are a problem and a right solution of it. Explain the solution step by step in your own words.
Keep its reasoning right and its final answer as it is, and do not mention that you were given a solution. On the last
line write nothing but the final answer in \boxed{{}}.

Problem:
{question}

Solution:
{solution}"""
FIELDS = ("question", "solution")


class Gold(NamedTuple):
    """A gold answer. Example: ``Gold("4", only_number=True)``"""

    answer: Any
    only_number: bool = False  # see `Stated`


class Solutions(View):
    """Prompts as they are, with the gold answers that their solutions state."""

    @dataclass
    class Config:
        """What a solution is that states no answer."""

        plain: bool = False  # the answer itself, as a name is; false: it is left out

    config: Any

    def __init__(self, config: Any, *, tokenizer: ChatTemplate, seed: int) -> None:
        super().__init__(config)
        self._template = tokenizer
        self._without: list[str] = []  # places of rows that state no answer
        self._numbers: list[str] = []  # places of rows, and their last numbers
        self._others = 0  # further solutions of the same questions

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`. Raises DataError where there are prompts and none states an answer."""
        golds = [(prompt, gold_of(prompt, self.config.plain)) for prompt in prompts]
        kept = [replace(prompt, answer=gold.answer) for prompt, gold in golds if gold is not None]
        self._numbers += [f"{p.place or p.id}: {gold.answer}" for p, gold in golds if gold and gold.only_number]
        self._without += [prompt.place or prompt.id for prompt, gold in golds if gold is None]
        if prompts and not kept:
            raise DataError(
                f"none of {len(prompts)} rows states an answer, in a box or as a number (the first: "
                f"{self._without[0]}); fix: data.answer_key=COLUMN of the solution, or of the answer"
            )
        return kept

    def left_out(self) -> str:
        """See `View.left_out`; and of how many rows the gold is a guess."""
        parts = list[str]()
        if self._without:
            count = len(self._without)
            parts.append(f"{count} rows left out that state no answer, in a box or as a number: {self._without[0]}")
        if self._numbers:
            count = len(self._numbers)
            parts.append(
                f"{count} rows kept whose gold is but the last number of the solution, which calls none the answer "
                f"(the first: {self._numbers[0]})"
            )
        return "; ".join(parts)


class Rewriting(Solutions):
    """Asks to rewrite the expert's solution. Prompts keep their ids, so that rows ask the bare question again.

    What a reward compares a rewrite with goes along: the bare prompt, and the ids of the expert's solution after it.
    """

    @dataclass
    class Config(Solutions.Config):
        """What is asked, and of which items."""

        template: str = REWRITE  # with {question} and {solution}
        max_tokens: int = 0  # of a rewriting prompt: longer ones are left out, and counted; 0: they are refused

        def __post_init__(self) -> None:
            try:
                named = {name for _, name, _, _ in Formatter().parse(self.template) if name is not None}
            except ValueError as cause:
                raise ValueError(f"template={self.template!r} cannot be filled ({cause})") from cause
            if named != set(FIELDS):
                raise ValueError(f"template={self.template!r} must hold {{question}} and {{solution}}, and no others")
            if self.max_tokens < 0:
                raise ValueError(f"max_tokens={self.max_tokens} must be 0 or more")

    config: Config

    def __init__(self, config: Any, *, tokenizer: ChatTemplate, seed: int) -> None:
        super().__init__(config, tokenizer=tokenizer, seed=seed)
        self._long = 0

    def prompts(self, prompts: Sequence[Prompt]) -> list[Prompt]:
        """See `View.prompts`. Raises DataError on a row without a solution."""
        asked = [self._asked(prompt) for prompt in super().prompts(prompts)]
        limit = self.config.max_tokens
        fitting = [prompt for prompt in asked if not limit or len(prompt.token_ids) <= limit]
        self._long += len(asked) - len(fitting)
        return fitting

    def left_out(self) -> str:
        """See `View.left_out`."""
        parts = [super().left_out()]
        if self._long:
            parts.append(f"{self._long} rows left out whose rewriting prompts exceed {self.config.max_tokens} tokens")
        if self._others:
            parts.append(f"{self._others} further solutions of the same questions are not rewritten")
        return "; ".join(filter(None, parts))

    def _asked(self, prompt: Prompt) -> Prompt:
        solution = solution_of(prompt)
        if not solution.strip():
            raise DataError(
                f"{prompt.place or prompt.id}: no solution to rewrite; fix: name its column (data.format=columns "
                "data.prompt_key=COLUMN data.answer_key=COLUMN)"
            )
        self._others += max(0, len(prompt.meta.get("targets", ())) - 1)
        text = self.config.template.format(question=question_of(prompt), solution=solution)
        expert = self._template.answer_ids(prompt.messages, {"role": ASSISTANT, "content": solution}, prompt.tools)
        asked = reworded(prompt, text, self._template)
        return replace(asked, meta={**asked.meta, BARE: prompt, EXPERT: np.asarray(expert, np.int32)})


def gold_of(prompt: Prompt, plain: bool = False) -> Gold | None:
    """The answer that a rewrite must keep; None where the row states none.

    plain: a solution that states none is the answer itself.
    """
    solution = solution_of(prompt)
    if prompt.answer is not None and str(prompt.answer).strip() != solution.strip():
        return Gold(prompt.answer)
    if (stated := stated_answer(solution)) is not None:
        return Gold(stated.answer, stated.only_number)
    return Gold(solution.strip()) if plain and solution.strip() else None
