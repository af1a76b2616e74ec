"""What P-GenRM's tests share: items of letters, rows of a file, and a policy that is a script."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from raylign.chat.template import ChatTemplate
from raylign.contracts import Completion, Sampling
from raylign.recipes.p_genrm.items import Choice, Item, UserSplit
from raylign.recipes.p_genrm.toy import LetterChains
from raylign.records import Prompt, StopReason

FORM = LetterChains(LetterChains.Config())
LETTERS = {"_target_": "raylign.recipes.p_genrm.toy.LetterChains"}
NGRAMS = {"_target_": "raylign.actors.embed.HashedNgrams", "characters": [1, 2], "words": [], "dimensions": 64}


def item(user: str = "u", part: UserSplit = UserSplit.test, liked: str = "ac", **fields: Any) -> Item:
    """An item of a user who likes two letters, the first one more; the second response is chosen."""
    history = (Choice("x", f"{liked[0]}f", "de"), Choice("x", f"{liked[1]}e", "df"))
    known: dict[str, Any] = {"query": "x", "responses": ("de", f"{liked[0]}f"), "gold": (0.0, 1.0), "history": history}
    stated = f"{liked[0]}6{liked[1]}4"
    return Item(user=user, part=part, stated=stated, **{**known, **fields})


def asked(template: ChatTemplate, made: Item, number: int = 0) -> Prompt:
    """An item's prompt as the policy reads it."""
    messages = FORM.messages(made)
    ids = np.asarray(template.prompt_ids(messages), np.int32)
    return Prompt(id=f"p{number}", messages=messages, token_ids=ids, meta=made.meta(), place=f"row {number}")


class ScriptedPolicy:
    """Says what a function of the question and the seed says; keeps the questions."""

    max_context = 64

    def __init__(self, template: ChatTemplate, say: Callable[[str, int], str]) -> None:
        self.template, self._say = template, say
        self.questions: list[str] = []
        self.seeds: list[int] = []

    async def generate(self, token_ids: Sequence[int] | np.ndarray, sampling: Sampling, seed: int) -> Completion:
        """One completion."""
        text = self.template.tokenizer.decode(list(token_ids))
        question = text.partition("<|user|>")[2].partition("<|end|>")[0]
        self.questions.append(question)
        self.seeds.append(seed)
        said = self._say(question, len(self.questions) - 1)
        ids = np.asarray(self.template.codec.encode(said), np.int32)
        zeros = np.zeros(len(ids), np.float32)
        return Completion(
            token_ids=ids, logprobs=zeros, versions=np.zeros(len(ids), np.int32), stop=StopReason.EOS, text=said
        )


def choice_row(user: str, number: int, split: str = "train", **more: Any) -> dict[str, Any]:
    """A row of a file of choices."""
    said = [{"role": "user", "content": f"question {number}"}]
    chosen, rejected = ({"role": "assistant", "content": f"{kind} {user} {number}"} for kind in ("good", "bad"))
    ratings = {"chosen_score": 80 + number, "rejected_score": 20}
    return {"user_id": user, "split": split, "context": said, "chosen": chosen, "rejected": rejected, **ratings, **more}


def written(path: Path, rows: Sequence[dict[str, Any]]) -> Path:
    """The rows as a file."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
