"""Prompts <-> chains: a run's prompts as seeds, chains read for them, and chains as prompts like the last seed's."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import numpy as np

from raylign.chat.template import chat_template
from raylign.data.files import read_rows
from raylign.data.questions import asked_instead, question_of
from raylign.data.rendered import rows_of
from raylign.data.rows import DataRow
from raylign.errors import DataError
from raylign.recipes.composition_rl.compose.chain import Chain, CompositionError, Reason, Rejected, seed_problem
from raylign.recipes.composition_rl.compose.rows import by_depth
from raylign.records import Prompt

CHAIN = "chain"  # key of meta: the record of a composed chain, or the list of its seeds' before
OF_THE_SEED = ("target", "question", "solution", "solution_answer")  # what is said of the seed alone
IMITATED = ("targets", "demonstration")  # the same, and no note for a composer


@contextmanager
def as_data_error(where: str) -> Iterator[None]:
    """What the composing library cannot do is an error of the run's data: raises DataError in place of its own."""
    try:
        yield
    except CompositionError as error:
        raise DataError(f"{where}: {error}") from error


class SeedPrompts:
    """The prompts of a run, and the chains of depth 1 that they are, by id.

    template: the policy's tokenizer or chat template. max_tokens: of the prompt of a chain, 0: any number.
    """

    def __init__(self, prompts: Sequence[Prompt], template: Any, max_tokens: int = 0) -> None:
        if not prompts:
            raise DataError("a prompt source needs at least one prompt")
        self.prompts: Mapping[str, Prompt] = {prompt.id: prompt for prompt in prompts}
        self.chains: Mapping[str, Chain] = {prompt.id: _seed(prompt) for prompt in prompts}
        self._template, self._max_tokens = template, max_tokens

    def made(self, path: str) -> dict[int, list[Chain]]:
        """The chains of a file that end with one of the seeds, by depth; of no file for an empty path."""
        with as_data_error(f"{path} (a stage that keeps ComposedChains writes such rows)"):
            return by_depth(read_rows(Path(path).expanduser()), self.chains) if path else {}

    def prompt(self, chain: Chain, visit: int) -> Prompt | Rejected:
        """The chain as a prompt, under the last seed's system message, template, verifier and domain.

        One of depth 1 is the seed's own; a longer one is rejected (TOO_LONG) beyond `max_tokens`.
        """
        last = self.prompts[chain.seeds[-1]]
        written = {"composition": {"depth": chain.depth, "seeds": [*chain.seeds], "links": [*map(asdict, chain.links)]}}
        if chain.depth == 1:
            return replace(last, meta={**last.meta, **written}, visit=visit)
        asked = _asking(last, chain.text, written)
        ids = np.asarray(chat_template(self._template).prompt_ids(asked.messages, last.tools), np.int32)
        if self._max_tokens and len(ids) > self._max_tokens:
            return Rejected(reason=Reason.TOO_LONG, detail=f"{len(ids)} tokens")
        return replace(asked, id=chain.id, token_ids=ids, visit=visit)


def composed_row(last: Prompt, record: Mapping[str, Any]) -> DataRow:
    """The row that asks a composed chain as its last seed is asked; its record is ``meta["chain"]``."""
    (row,) = rows_of(_asking(last, str(record["question"]), {CHAIN: record}))
    return row


def _asking(last: Prompt, text: str, written: Mapping[str, Any]) -> Prompt:
    """The last seed's prompt with the text of a chain in its place, without what is said of the seed alone."""
    meta = {name: value for name, value in last.meta.items() if name not in (*OF_THE_SEED, *IMITATED)}
    return replace(last, messages=asked_instead(last, text), meta={**meta, **written})


def _seed(prompt: Prompt) -> Chain:
    """The problem that a prompt asks."""
    notes = {name: prompt.meta[name] for name in OF_THE_SEED if name in prompt.meta}
    answer = "" if prompt.answer is None else str(prompt.answer)
    return seed_problem(question_of(prompt), answer, prompt.id, prompt.domain, **notes)
