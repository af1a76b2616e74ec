"""The question of a rewriting prompt as the base model is asked it, and the expert's solution."""

from __future__ import annotations

import numpy as np

from raylign.chat.messages import message_of
from raylign.data.rendered import TARGET
from raylign.records import Int32s, Prompt

BARE = "bare"  # keys of the meta of a rewriting prompt: the prompt that it was made of,
EXPERT = "expert_ids"  # and the expert's solution as the learner would imitate it [L]


def bare_of(prompt: Prompt) -> Prompt:
    """The prompt without the rewriting instruction; any other prompt is its own."""
    bare = prompt.meta.get(BARE)
    return bare if isinstance(bare, Prompt) else prompt


def expert_ids(prompt: Prompt) -> Int32s:
    """Ids of the expert's solution, its end of turn included; none where no view has laid them out."""
    ids: Int32s = np.asarray(prompt.meta.get(EXPERT, ()), np.int32)
    return ids


def solution_of(prompt: Prompt) -> str:
    """Text of the expert's solution; empty without one."""
    target = prompt.meta.get(TARGET)
    return "" if target is None else str(message_of(target).get("content") or "")
