"""The task of scale=tiny: two lookups and a user who asks twice, in CM2's annotation format, with rules as models.

    user  b4                         what stands in b at 4?
    says  {"name": "b", "arguments": {"k": 4}}
    tool  {"v": 3}                   recorded; any other lookup is answered {"v": 0} by the simulator
    says  3
    user  a8                         only if the first reply was right

The demonstrations look up the wrong cell and misread results now and then. What imitates them earns about a half, and
reinforcement learning has something to improve.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylign.actors.tools.calls import ToolCall, canonical, read_message
from raylign.contracts import RewardFunction, RowGenerator, Sampling
from raylign.data.rows import DataRow
from raylign.errors import JudgeUnavailable
from raylign.recipes.cm2.records import dialogue_row
from raylign.recipes.cm2.reward import reference_turns
from raylign.records import Message, Prompt, Trajectory, Value

TOOLS = "ab"
NOTHING = {"v": 0}  # what a lookup that was never recorded shows; recorded values are 1 to 9
WEIGHTS = (0.3, 0.3, 0.4)
MISREAD = 0.1  # chance that a demonstration reports another value than it saw
NAMES = ("asked", "found", "said")


class LookUps(RowGenerator):
    """Dialogues of `turns` lookups; each turn has three items, the last two must pass."""

    @dataclass
    class Config:
        """Number of turns and of cells, and the chance that a demonstration looks up a wrong one."""

        turns: int = 2
        keys: int = 10
        wrong_cell: float = 0.3

        def __post_init__(self) -> None:
            if not 0 <= self.wrong_cell <= 1:
                raise ValueError(f"wrong_cell={self.wrong_cell} is a probability: set it between 0 and 1")
            if self.keys < 2 or not 1 <= self.turns <= len(TOOLS) * self.keys:
                raise ValueError(f"keys={self.keys}, turns={self.turns}: every turn needs a cell of its own")

    def __init__(self, config: Config) -> None:
        self.config = config

    def rows(self, size: int, seed: int) -> Iterator[DataRow]:
        """`size` dialogues, each sampled independently."""
        rng = np.random.default_rng([seed, 2602, 12268])
        for number in range(size):
            yield self._row(rng, number)

    def _row(self, rng: np.random.Generator, number: int) -> DataRow:
        messages: list[dict[str, Any]] = []
        said: list[dict[str, Any]] = []
        lists: list[list[dict[str, Any]]] = []
        values = {
            (TOOLS[cell % len(TOOLS)], int(cell // len(TOOLS))): int(rng.integers(1, 10))
            for cell in rng.choice(len(TOOLS) * self.config.keys, self.config.turns, replace=False)
        }
        for turn, ((tool, key), value) in enumerate(values.items()):
            user = {"role": "user", "content": f"{tool}{key}"}
            messages += [user, *_reference(tool, key, value)]
            lists.append(_items(turn, tool, key, value))
            cell = self._cell(rng, tool, key)
            seen = values.get(cell, NOTHING["v"])
            reply = int(rng.integers(10)) if rng.random() < MISREAD else seen
            said += [*([user] if turn else []), *_exchange(*cell, seen, reply)]
        raw = {"messages": messages, "tools": [_schema(tool) for tool in TOOLS], "checklist_list": [lists]}
        row = dialogue_row(raw, f"lookups {number}")
        return DataRow(
            messages=row.messages,
            place=row.place,
            answer=row.answer,
            tools=row.tools,
            meta={**row.meta, "demonstration": said},
        )

    def _cell(self, rng: np.random.Generator, tool: str, key: int) -> tuple[str, int]:
        """Which cell a demonstration looks up: the one asked for, or another tool's or key's."""
        if rng.random() >= self.config.wrong_cell:
            return tool, key
        if rng.random() < 0.5:
            return TOOLS[1 - TOOLS.index(tool)], key
        return tool, int((key + rng.integers(1, self.config.keys)) % self.config.keys)


class TrueCompletion(RewardFunction):
    """The checklist as a judge without any error would see it, from the policy's own words. For logs: weight 0."""

    judges_text = False

    @dataclass
    class Config:
        """No settings."""

    def __init__(self, config: Config) -> None:
        self.config = config

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> list[Value]:
        """R of each rollout."""
        return [Value(score=self._score(prompt, trajectory)) for trajectory in trajectories]

    def _score(self, prompt: Prompt, trajectory: Trajectory) -> float:
        total = 0.0
        recorded = prompt.meta["recorded"]
        for turn in range(reference_turns(prompt)):
            texts = [read_message(call.text) for call in trajectory.calls if call.flags["turn"] == turn]
            wanted, value = recorded[turn], json.loads(recorded[turn]["result"])["v"]
            key = canonical(wanted["name"], wanted["arguments"])
            at = next((i for i, text in enumerate(texts) if key in [call.key for call in text.good]), None)
            if at is not None:
                right = any(text.reply == str(value) for text in texts[at + 1 :])
                total += WEIGHTS[0] + WEIGHTS[1] + WEIGHTS[2] * right
        return total / reference_turns(prompt)


def rule_judge(
    messages: Sequence[Message], sampling: Sampling, seed: int, flip: float = 0.0, absent: float = 0.0
) -> str:
    """A judge that reads the conditions of these checklists. flip: chance of the opposite verdict. absent: of none."""
    rng = np.random.default_rng(seed)
    if rng.random() < absent:
        raise JudgeUnavailable("this judge is absent now and then")
    before, _, item = str(messages[-1]["content"]).rpartition("\n\nThe point:\n")
    steps = [json.loads(line) for line in before.rpartition("The turn in question:\n")[2].splitlines()][1:]
    kind, _, wanted = str(json.loads(item)["condition"]).partition(" ")
    verdict = {"call": _called, "result": _found, "reply": _said}[kind](steps, wanted)
    return json.dumps({"answer": bool(verdict != (rng.random() < flip))})


def simulator(messages: Sequence[Message], sampling: Sampling, seed: int) -> str:
    """Every lookup that was not recorded shows nothing."""
    return json.dumps({"analysis": "not recorded", "execution_result": NOTHING})


def _called(steps: Sequence[Mapping[str, Any]], wanted: str) -> bool:
    calls = [ToolCall(**call).key for step in steps for call in step["tool_calls"]]
    return canonical(**json.loads(wanted)) in calls


def _found(steps: Sequence[Mapping[str, Any]], wanted: str) -> bool:
    return any(json.loads(result).get("v") == int(wanted) for step in steps for result in step["tool_results"])


def _said(steps: Sequence[Mapping[str, Any]], wanted: str) -> bool:
    return any(step["visible_reply"] == wanted for step in steps)


def _exchange(tool: str, key: int, value: int, reply: int) -> list[dict[str, Any]]:
    """A lookup, its result and the reply."""
    call = json.dumps({"name": tool, "arguments": {"k": key}})
    return [
        {"role": "assistant", "content": call},
        {"role": "tool", "content": json.dumps({"v": value})},
        {"role": "assistant", "content": str(reply)},
    ]


def _reference(tool: str, key: int, value: int) -> list[dict[str, Any]]:
    """The same in the form of the data set, without error."""
    call, result, reply = _exchange(tool, key, value, value)
    return [{"role": "assistant", "content": "", "tool_calls": [json.loads(call["content"])]}, result, reply]


def _items(turn: int, tool: str, key: int, value: int) -> list[dict[str, Any]]:
    call = json.dumps({"name": tool, "arguments": {"k": key}})
    focus = ("assistant.tool_calls", "tool.content", "assistant.content.user_visible_reply")
    conditions = (f"call {call}", f"result {value}", f"reply {value}")
    questions = ("Was the right cell looked up?", "Was its value obtained?", "Does the reply give the value?")
    return [
        {
            "id": name,
            "evidence": [{"turn": turn, "step": int(name == "said"), "source": focus[i], "snippet": conditions[i]}],
            "focus_on": focus[i],
            "question": questions[i],
            "pass_condition": conditions[i],
            "failure_examples": [],
            "required_for_next_turn": name != "asked",
            "dependence": ["found"] if name == "said" else [],
            "weight": WEIGHTS[i],
        }
        for i, name in enumerate(NAMES)
    ]


def _schema(tool: str) -> dict[str, Any]:
    parameters = {"type": "object", "properties": {"k": {"type": "integer"}}, "required": ["k"]}
    function = {"name": tool, "description": f"Shows a cell of {tool}.", "parameters": parameters}
    return {"type": "function", "function": function}
