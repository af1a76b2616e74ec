r"""Where a prompt asks for the answer: ``\boxed{}``, ``<answer>`` tags, ``Answer: N``, ``#### N``, words."""

from __future__ import annotations

import re
from enum import Enum

from raylign.actors.reward.response import last_boxed
from raylign.records import Prompt


class Form(Enum):
    """Where a response says its answer."""

    boxed = r"\boxed{...}"
    tag = "<answer>...</answer>"
    line = "Answer: ..."
    mark = "#### ..."
    said = "The answer is ..."


LINE = re.compile(r"(?:final\s{1,3})?answer\s{0,3}\**\s{0,3}:", re.IGNORECASE)
ASKS_LINE = re.compile(
    r"(?:\b(?:form|format|line|end|ends|ending|finish|conclude|write|put|give|respond|state|output|after|with|as|use)\b"
    r"[^\n]{0,80}?)[\"'`*\u201c]*\b(?:final\s+)?answer\s*:",
    re.IGNORECASE,
)
ASKS_MARK = re.compile(
    r"\b(?:form|format|line|end|ends|ending|finish|write|put|give|after|behind|with|by|as|use)\b[^\n]{0,60}?####",
    re.IGNORECASE,
)


ASKS_SAID = re.compile(
    r"\b(?:form|format|line|end|ends|ending|finish|conclude|write|put|give|respond|state|output|with|as|use|say|saying)\b"
    r"[^\n]{0,60}?[\"'`*\u201c]\s*(?:so |therefore,? )?the\s+(?:final\s+)?answer\s+is\b",
    re.IGNORECASE,
)
SAID = re.compile(r"\bthe\s{1,3}(?:final\s{1,3})?answer\s{1,3}is\s{0,3}:?", re.IGNORECASE)


def asked(prompt: Prompt) -> Form | None:
    """The form that the prompt's messages ask for; of several, the last that they name. None: they ask for none."""
    asking = [message for message in prompt.messages if message.get("role") not in ("assistant", "tool")]
    text = "\n".join(_text(message.get("content")) for message in asking)
    places = {
        Form.boxed: text.rfind("\\boxed"),
        Form.tag: text.rfind("<answer>"),
        Form.line: max((match.start() for match in ASKS_LINE.finditer(text)), default=-1),
        Form.mark: max((match.start() for match in ASKS_MARK.finditer(text)), default=-1),
        Form.said: max((match.start() for match in ASKS_SAID.finditer(text)), default=-1),
    }
    form, place = max(places.items(), key=lambda item: item[1])
    return form if place >= 0 else None


def written(answer: str, form: Form) -> str:
    """A response that gives the answer in a form."""
    return {
        Form.boxed: f"\\boxed{{{answer}}}",
        Form.tag: f"<answer>{answer}</answer>",
        Form.line: f"Answer: {answer}",
        Form.mark: f"#### {answer}",
        Form.said: f"The answer is {answer}",
    }[form]


def answer_in(response: str, form: Form) -> str | None:
    r"""What a response gives in a form, at its last place; None when it does not. A box inside is opened."""
    if form is Form.boxed:
        return last_boxed(response)
    if form is Form.tag:
        found = tagged(response)
    elif form in (Form.line, Form.said):
        lines = list((LINE if form is Form.line else SAID).finditer(response))
        found = _line(response[lines[-1].end() :]) if lines else None
    else:
        _, mark, tail = response.rpartition("####")
        found = _line(tail) if mark else None
    if found is None or not found.strip():
        return None
    boxed = last_boxed(found)
    return found.strip() if boxed is None else boxed


def tagged(response: str) -> str | None:
    """What stands in the last ``<answer>...</answer>``, or None."""
    end = response.rfind("</answer>")
    start = response.rfind("<answer>", 0, max(end, 0))
    return response[start + len("<answer>") : end] if start >= 0 else None


def _line(tail: str) -> str:
    """The rest of the line, or the next one where nothing follows on it."""
    lines = [line.strip(" *\t") for line in tail.splitlines()]
    return next((line for line in lines if line), "")


def _text(content: object) -> str:
    if isinstance(content, list | tuple):
        return "\n".join(str(part.get("text") or "") if isinstance(part, dict) else str(part) for part in content)
    return str(content or "")
