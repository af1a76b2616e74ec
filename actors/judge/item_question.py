"""The question that a judge answers about one checklist item at one step of a dialogue.

The judge sees the dialogue before the turn, the turn up to the step with thinking, visible reply and calls apart, and
the item. It answers true only when what the item looks at is there, its condition is met and no failure applies.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from raylign.actors.judge.checklist import Item
from raylign.records import Message

SCHEMA = {
    "type": "object",
    "properties": {
        "question": {"type": "string"},
        "focus": {"type": "string"},
        "condition": {"type": "string"},
        "failures": {"type": "array", "items": {"type": "string"}},
        "answer": {"type": "boolean"},
    },
    "required": ["question", "focus", "condition", "failures", "answer"],
    "additionalProperties": False,
}
ROLE = """You check one point about an assistant that talks to a user and may call tools. You are given the dialogue, \
with turns and steps numbered, and one point: a question, the part of the dialogue it looks at, the condition under \
which it passes, patterns under which it fails, and snippets of a reference dialogue.
Rules: judge only the last turn, up to its last step. Other wording or another way is fine where the result is the \
same. A call that stands inside the thinking was not made. A tool result that is an error takes back its call.
Answer as JSON: restate the question, say what you find in the part it looks at, whether the condition is met, one \
sentence for every failure pattern, and then `answer`: true only if the part is there, the condition is met and no \
failure pattern applies."""


def item_question(item: Item, before: Sequence[Any], present: Sequence[Any]) -> tuple[Message, Message]:
    """The two messages of the question.

    before, present: earlier turns, and the steps of the turn in question, as JSON values. The last line of the second
    message is the item's own JSON, which scripted judges read.
    """
    parts = [
        "Earlier turns:\n" + ("\n".join(json.dumps(turn, ensure_ascii=False) for turn in before) or "none"),
        "The turn in question:\n" + "\n".join(json.dumps(step, ensure_ascii=False) for step in present),
        "The point:\n" + json.dumps(_item(item), ensure_ascii=False),
    ]
    return {"role": "system", "content": ROLE}, {"role": "user", "content": "\n\n".join(parts)}


def read_answer(value: Any) -> bool:
    """The verdict. Raises ValueError unless it is a boolean."""
    if not isinstance(value["answer"], bool):
        raise ValueError(f"answer is {value['answer']!r}, expected true or false")
    return value["answer"]


def _item(item: Item) -> dict[str, Any]:
    return {
        "id": item.id,
        "question": item.question,
        "focus": item.focus.value,
        "condition": item.pass_condition,
        "failures": list(item.failure_examples),
        "snippets": [evidence.snippet for evidence in item.evidence],
    }
