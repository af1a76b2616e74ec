"""What a policy writes in one turn, read as the one call that every gym takes: a choice, and its content."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from enum import Enum

from raylign.actors.tools.calls import BadCall, ToolCall, read_message, write_call

TOOL = "interact_with_env"
MARKED = re.compile(r"([^?!$]*)([?!$])(.*)", re.DOTALL)


class Choice(Enum):
    """What a turn does."""

    action = "action"  # on the world: a question, a probe
    answer = "answer"  # a solution, which the user checks
    search = "search"  # for something that the world will show


MARKS = {"?": Choice.action, "!": Choice.answer, "$": Choice.search}


class Form(Enum):
    """How a turn is written."""

    call = "call"  # <think>...</think><tool_call>{"name": "interact_with_env", "arguments": {...}}</tool_call>
    marks = "marks"  # for tiny models: thought, then ? action, ! answer or $ search, then its content: ab?37


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A turn that could be read. Example: ``Act(choice=Choice.answer, content="12", thought=40)``"""

    choice: Choice
    content: str
    thought: int  # letters before it


@dataclass(frozen=True, slots=True, kw_only=True)
class Unread:
    """A turn that could not. Example: ``Unread(why="write one call", thought=12)``"""

    why: str
    thought: int


def read_act(text: str, form: Form) -> Act | Unread:
    """The act of a turn; what it thought comes before it and is never an act."""
    return _marked(text) if form is Form.marks else _called(text)


def write_act(choice: Choice, content: str, form: Form, thought: str = "") -> str:
    """A turn as `read_act` reads it."""
    if form is Form.marks:
        mark = next(mark for mark, meant in MARKS.items() if meant is choice)
        return f"{thought}{mark}{content}"
    return f"<think>{thought}</think>{write_call(TOOL, {'choice': choice.value, 'content': content})}"


def how_to_act(form: Form, choices: dict[Choice, str]) -> str:
    """The paragraph of a prompt that explains the form. choices: what each is for."""
    if form is Form.marks:
        return "\n".join(f"{mark} {choices[choice]}" for mark, choice in MARKS.items() if choice in choices)
    lines = [f"- {choice.value}: {meaning}" for choice, meaning in choices.items()]
    example = write_act(next(iter(choices)), "...", form, thought="your thoughts")
    return "\n".join(["In each turn make exactly one call, with one of these choices:", *lines, f"Write: {example}"])


def _marked(text: str) -> Act | Unread:
    parts = MARKED.fullmatch(text.strip())
    if parts is None:
        return Unread(why="begin with ?, ! or $", thought=len(text))
    return Act(choice=MARKS[parts[2]], content=parts[3].strip(), thought=len(parts[1]))


def _called(text: str) -> Act | Unread:
    said = read_message(text)
    thought = len(said.thinking)
    if len(said.calls) != 1:
        return Unread(why=f"make exactly one call of {TOOL} in a turn, not {len(said.calls)}", thought=thought)
    (call,) = said.calls
    if isinstance(call, BadCall):
        return Unread(why=f"the call could not be read: {call.why}", thought=thought)
    return _of_call(call, thought)


def _of_call(call: ToolCall, thought: int) -> Act | Unread:
    chosen, content = call.arguments.get("choice"), call.arguments.get("content")
    if call.name != TOOL:
        return Unread(why=f"there is no tool {call.name[:40]}; call {TOOL}", thought=thought)
    if not isinstance(chosen, str) or chosen not in Choice.__members__:
        return Unread(why=f"choice must be one of {', '.join(Choice.__members__)}", thought=thought)
    if content is None or isinstance(content, dict):
        return Unread(why="content must be a text", thought=thought)
    words = content if isinstance(content, str) else json.dumps(content)
    return Act(choice=Choice[chosen], content=words.strip(), thought=thought)
