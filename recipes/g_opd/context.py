"""Context distillation: the teacher is the frozen initial student that is told more than the student is.

Give a teacher without a path one of these as `frozen.NAME.context`, with `advantage.reward_weight=1` as in the paper.
The released code describes two kinds of context; the wording is this module's own.
"""

from __future__ import annotations

import asyncio
import json
import urllib.request
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from raylign.contracts import FrozenModelContext
from raylign.data.questions import last_user, said_instead
from raylign.errors import DataError
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

    The judge is a server with the chat completions interface of OpenAI (vLLM and others offer it). It is told the
    problem, the correct answer and the student's solution. One that cannot be asked leaves the sample unscored.
    """

    @dataclass
    class Config:
        """The judge and how patiently it is asked."""

        url: str = ""  # e.g. http://host:8000/v1
        model: str = ""
        temperature: float = 0.0
        max_tokens: int = 2048  # of a critique
        timeout_s: float = 300.0
        retries: int = 2
        concurrency: int = 64  # requests at a time
        max_missing: float = 0.5  # share of samples without a critique in one step that ends the run

        def __post_init__(self) -> None:
            if not self.url.startswith(("http://", "https://")) or not self.model:
                raise ValueError(f"url={self.url!r}, model={self.model!r}: name the judge's /v1 address and its model")
            if min(self.max_tokens, self.concurrency) < 1 or self.retries < 0 or self.timeout_s <= 0:
                raise ValueError(
                    "max_tokens and concurrency must be at least 1, retries at least 0, timeout_s positive"
                )
            if not 0 <= self.max_missing <= 1:
                raise ValueError(f"max_missing={self.max_missing} is no share")

    def __init__(self, config: Config) -> None:
        self.config = config
        self.max_missing = config.max_missing
        self._threads = ThreadPoolExecutor(config.concurrency, thread_name_prefix="critique")

    async def messages(self, prompt: Prompt, response: str) -> tuple[Message, ...] | Missing:
        """The conversation with the critique; Missing when the judge gave none."""
        problem = last_user(prompt)
        asked = CRITICISE.format(problem=problem, answer=prompt.answer, solution=response)
        critique = await self._ask(asked)
        if isinstance(critique, Missing):
            return critique
        own = {"role": "assistant", "content": response}
        return (*prompt.messages, own, {"role": "user", "content": REWRITE.format(critique=critique)})

    async def _ask(self, text: str) -> str | Missing:
        reason = ""
        for attempt in range(self.config.retries + 1):
            if attempt:
                await asyncio.sleep(min(2.0 ** (attempt - 1), 30.0))
            try:
                return await asyncio.get_running_loop().run_in_executor(self._threads, self._request, text)
            except (OSError, ValueError, LookupError, TypeError) as error:  # urllib's errors are OSErrors
                reason = f"{type(error).__name__}: {error}"
        return Missing(reason=f"judge at {self.config.url}: {reason}")

    def _request(self, text: str) -> str:
        """One critique. Raises OSError when the server cannot be reached or refuses, the others on a strange reply."""
        config = self.config
        body = {
            "model": config.model,
            "messages": [{"role": "user", "content": text}],
            "temperature": config.temperature,
            "max_tokens": config.max_tokens,
        }
        request = urllib.request.Request(
            f"{config.url.rstrip('/')}/chat/completions",
            data=json.dumps(body).encode(),
            headers={"Content-Type": "application/json"},
        )
        with urllib.request.urlopen(request, timeout=config.timeout_s) as reply:
            content = json.load(reply)["choices"][0]["message"]["content"]
        if not isinstance(content, str) or not content.strip():
            raise ValueError("the critique is empty")
        return content
