"""Context distillation: the teacher is the frozen initial student that is told more than the student is.

Give a teacher without a path one of these as `frozen.NAME.context`, with `advantage.reward_weight=1` as in the paper.
The released code describes two kinds of context; the wording is this module's own.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from raylign.actors.judge.endpoint import Endpoint
from raylign.chat.thoughts import without_thoughts
from raylign.contracts import FrozenModelContext, Sampling
from raylign.data.questions import last_user, said_instead
from raylign.errors import DataError, JudgeUnavailable
from raylign.records import Message, Missing, Prompt

SOLVE_YOURSELF = (
    "{question}\n\nHere is a solution that is known to be right:\n{solution}\n\n"
    "Make sure that you understand it, then solve the problem yourself, in your own words and step by step."
)
CRITICISE = (
    "A student has solved a problem. Go through the student's solution step by step, say of each step whether it is "
    "right, and explain every mistake. Do not write a solution of your own.\n\n"
    "# Problem\n{problem}\n\n# Correct answer\n{answer}\n\n# Student's solution\n{solution}"
)
REWRITE = (
    "A reviewer says about your solution:\n\n{critique}\n\nTake the review into account and write the solution anew."
)


class SolutionContext(FrozenModelContext):
    """The last user turn with a reference solution in it and the request to solve the problem independently."""

    max_missing = 0.0

    @dataclass
    class Config:
        """Where the solution stands."""

        column: str = "extra_info.ref_solution"  # of the data row; a dot enters a nested column

        def __post_init__(self) -> None:
            if not self.column:
                raise ValueError("column is empty: name the column of the reference solution")

    def __init__(self, config: Config) -> None:
        self.config = config

    async def messages(self, prompt: Prompt, response: str) -> tuple[Message, ...]:
        """The conversation with the solution. Raises DataError when the row brings none."""
        del response
        solution: Any = prompt.meta
        for name in self.config.column.split("."):
            solution = solution.get(name) if isinstance(solution, Mapping) else None
        if not isinstance(solution, str) or not solution.strip():
            raise DataError(
                f"prompt {prompt.id} has no text in the column {self.config.column!r}; its columns: "
                f"{', '.join(prompt.meta)}; fix: set frozen.NAME.context.column"
            )
        return said_instead(prompt, SOLVE_YOURSELF.format(question=last_user(prompt), solution=solution))


class CritiqueContext(FrozenModelContext):
    """The student's own solution, a judge's critique of it, and the request to write it anew.

    The judge is told the problem, the correct answer and the student's solution. One that cannot be asked, or says
    nothing, leaves the sample unscored.
    """

    @dataclass
    class Config(Endpoint.Config):
        """The judge's server and model, and its critiques."""

        timeout_s: float = 300.0  # of one request
        retries: int = 2
        connections: int = 64  # requests at a time
        temperature: float = 0.0
        max_tokens: int = 2048  # of a critique
        max_missing: float = 0.5  # share of samples without a critique in one step that ends the run

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.max_tokens < 1 or self.temperature < 0:
                raise ValueError(
                    f"max_tokens={self.max_tokens}, temperature={self.temperature}: set at least 1 token, 0 or more"
                )
            if not 0 <= self.max_missing <= 1:
                raise ValueError(f"max_missing={self.max_missing} is no share")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.max_missing = config.max_missing
        self._judge = Endpoint(config)
        self._gate = asyncio.Semaphore(config.connections)  # httpx counts the wait for a connection as the request's
        self._sampling = Sampling(max_tokens=config.max_tokens, temperature=config.temperature)

    async def messages(self, prompt: Prompt, response: str) -> tuple[Message, ...] | Missing:
        """The conversation with the critique; Missing when the judge gave none."""
        asked = CRITICISE.format(problem=last_user(prompt), answer=prompt.answer, solution=response)
        try:
            async with self._gate:
                reply = await self._judge.complete([{"role": "user", "content": asked}], self._sampling, seed=0)
        except JudgeUnavailable as error:
            return Missing(reason=str(error))
        critique = without_thoughts(reply.text)
        if not critique.strip():
            return Missing(reason=f"the critique of {self._judge.name} is empty")
        own = {"role": "assistant", "content": response}
        return (*prompt.messages, own, {"role": "user", "content": REWRITE.format(critique=critique)})
