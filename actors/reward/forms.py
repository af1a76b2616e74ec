r"""The forms in which a response says its answer: ``\boxed{}``, tags, ``Answer: N``, ``#### N``, JSON and others."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum

from raylign.actors.reward.response import last_boxed


class Form(Enum):
    """Where a response says its answer."""

    boxed = r"\boxed{...}"
    tag = "<answer>...</answer>"
    line = "Answer: ..."
    mark = "#### ..."
    said = "The answer is ..."
    json = '{"answer": ...}'
    brackets = "[[...]]"
    bold = "**...**"


@dataclass(frozen=True, slots=True)
class Asked:
    """A form, and the name of its tag, line or key where that is another than ``answer``."""

    form: Form
    name: str = ""


ANNOUNCING = (
    *(Asked(Form.tag, name) for name in ("answer", "ans")),
    *map(Asked, (Form.json, Form.mark, Form.line, Form.said)),
)
SAID = re.compile(r"\bthe\s{1,3}(?:final\s{1,3}|correct\s{1,3})?answer\s{1,3}is\s{0,3}:?", re.IGNORECASE)
BRACKETS = re.compile(r"\[\[(.{1,500}?)\]\](?!\])", re.DOTALL)
NEXT_LIST = re.compile(r"\s*[,;]?\s*\[")  # behind a bracket that closes in a list of lists
BOLD = re.compile(r"\*\*(?!\*)((?:(?!\*\*)[^\n]){1,500}?)(?<!\*)\*\*")
CLOSING_MARK = re.compile(r"(####[^\n#]+)#{4,}\s*\Z")  # #### 18 ####
BETWEEN = " ,;.*\t"  # announcements that share a line, or around one
EMPHASIS = re.compile(r"^(\*\*\*|\*\*|__|`)(?!\s)(.{1,500}?)(?<!\s)\1(?!\w)(?:[.,;:!?]+$)?")  # **4**, **4** apples
ENDING = re.compile(r"(?:\*+|__+|`)(?=[.,;:!]?$)")  # of an emphasis that began before the announcement
SINGLE = re.compile(  # a backslash that JSON would not have, or that begins the name of a command
    r'(?<!\\)(?:\\\\)*\\(?:[nrtbf][a-zA-Z]|u(?![0-9a-fA-F]{4})|[^"\'\\/nrtbfu])'
)
MOST = 64  # objects of a response that are tried, from its end


def written(answer: str, asked: Asked) -> str:
    """A response that gives the answer in a form."""
    name = asked.name or "answer"
    return {
        Form.boxed: f"\\boxed{{{answer}}}",
        Form.tag: f"<{name}>{answer}</{name}>",
        Form.line: f"{name.capitalize()}: {answer}",
        Form.mark: f"#### {answer}",
        Form.said: f"The answer is {answer}",
        Form.json: json.dumps({name: answer}, ensure_ascii=False),
        Form.brackets: f"[[{answer}]]",
        Form.bold: f"**{answer}**",
    }[asked.form]


def answer_in(response: str, asked: Asked) -> str | None:
    r"""What a response gives in a form, at its last place; None when it does not. A box inside is opened."""
    if asked.form is Form.boxed:
        return last_boxed(response)
    answer = _in_form(response, asked)
    if answer is None or not answer.strip():
        return None
    boxed = last_boxed(answer)
    return answer.strip() if boxed is None else boxed


def tagged(response: str, name: str = "answer") -> str | None:
    """What stands in the last ``<answer>...</answer>``, or None."""
    folded = response.lower() if len(response.lower()) == len(response) else response
    start = folded.rfind(f"<{name.lower()}>", 0, max(folded.rfind(f"</{name.lower()}>"), 0))
    return response[start + len(name) + 2 : folded.find(f"</{name.lower()}>", start)] if start >= 0 else None


def announced(response: str) -> str | None:
    """The answer of a response in whichever form it ends with; None where it uses none."""
    if (boxed := last_boxed(response)) is not None:
        return boxed
    names = (
        Asked(Form.tag),
        Asked(Form.tag, "ans"),
        Asked(Form.json),
        Asked(Form.mark),
        Asked(Form.line),
        Asked(Form.said),
    )
    answer = next((text for form in names if (text := answer_in(response, form)) is not None), None)
    if answer is not None:
        return answer
    last = response.rstrip().rpartition("\n")[2]
    for form, pattern in ((Form.bold, BOLD), (Form.brackets, BRACKETS)):
        if pattern.search(last) and not pattern.sub("", last).strip(BETWEEN):
            answer = answer_in(last, Asked(form))
            inner = announced(answer) if answer and len(answer) < len(last.strip()) else None
            return answer if inner is None else inner
    return None


def _in_form(response: str, asked: Asked) -> str | None:
    form, name = asked.form, asked.name or "answer"
    if form is Form.tag:
        return tagged(response, name)
    if form is Form.json:
        return _in_json(response, name)
    if form is Form.brackets:
        return _in_brackets(response)
    if form is Form.bold:
        said = BOLD.findall(response)
        return str(said[-1]) if said else None
    if form is Form.mark:
        _, mark, tail = CLOSING_MARK.sub(r"\1", response).rpartition("####")
        return _line(tail) if mark else None
    line = re.compile(rf"(?:final\s{{1,3}})?\b{re.escape(name)}\s{{0,3}}\**\s{{0,3}}:", re.IGNORECASE)
    lines = list((line if form is Form.line else SAID).finditer(response))
    return _line(response[lines[-1].end() :]) if lines else None


def _in_brackets(response: str) -> str | None:
    """What stands in the last double brackets; a list of lists, ``[[1,2],[3,4]]``, only looks like them and is one."""
    said = list(BRACKETS.finditer(response))
    if not said:
        return None
    inside, depth = said[-1][1], 0
    for place, letter in enumerate(inside):
        depth += (letter in "([{") - (letter in ")]}")  # either end of an interval is open or closed
        if depth < 0:
            return said[-1][0] if letter == "]" and NEXT_LIST.match(inside, place + 1) else inside
    return inside


def _in_json(response: str, key: str) -> str | None:
    r"""The value of a key in the last object that has it. LaTeX in a text may have its backslashes single or double."""
    spot = re.compile(rf"[\"']{re.escape(key)}[\"']\s*:\s*", re.IGNORECASE)
    for match in list(spot.finditer(response))[-MOST:][::-1]:
        rest = response[match.end() :]
        if text := re.match(r'"((?:[^"\\\n]|\\.)*)"', rest) or re.match(r"'((?:[^'\\\n]|\\.)*)'", rest):
            return _unescaped(text[1])
        try:
            value, _ = json.JSONDecoder().raw_decode(rest)
        except (ValueError, RecursionError):
            continue
        if isinstance(value, list):
            return ", ".join(map(str, value))
        return None if value is None or isinstance(value, dict) else str(value)
    return None


def _unescaped(text: str) -> str:
    """A JSON text as it is meant: one with a LaTeX command behind a single backslash keeps all of its own."""
    if not SINGLE.search(text):
        try:
            return str(json.loads('"' + re.sub(r'(?<!\\)"', r"\"", text.replace(r"\'", "'")) + '"', strict=False))
        except ValueError:
            pass  # half an escape
    return text.replace('\\"', '"').replace("\\'", "'")


def _line(tail: str) -> str:
    """The rest of the line, or the next one where nothing follows on it, without the emphasis around it."""
    lines = [ENDING.sub("", EMPHASIS.sub(r"\2", line.strip())).strip(" *\t") for line in tail.splitlines()]
    return next((line for line in lines if line), "")
