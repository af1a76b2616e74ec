"""Calls -> answers: several at once, in the order of the calls, faults answered and not raised."""

from __future__ import annotations

import asyncio
import json
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from raylign.actors.judge.client import JudgeCounts
from raylign.actors.tools.calls import BadCall, CallFault, ToolCall
from raylign.actors.tools.tool import Tool, violations
from raylign.contracts import Part
from raylign.records import Prompt

ERROR_MARK = "error_tool_call"  # stands in every answer to a call that could not be carried out


class Source(StrEnum):
    """Where an answer came from."""

    TOOL = "tool"  # carried out
    RECORDED = "recorded"
    SIMULATED = "simulated"
    FAULT = "fault"  # the call was not carried out


@dataclass(frozen=True, slots=True, kw_only=True)
class ToolAnswer:
    """What the policy reads after a call. Example: ``ToolAnswer(text="3", source=Source.TOOL)``"""

    text: str
    source: Source
    fault: CallFault | None = None
    counts: JudgeCounts | None = None  # what a simulator's answer cost


class Toolbox(Part):
    """The tools of an episode; holds no state of one."""

    what = "a toolbox"

    @abstractmethod
    async def answer(self, call: ToolCall, prompt: Prompt) -> ToolAnswer:
        """Carry out one call. Raises ToolFailure, JudgeUnavailable or JudgeUnreadable when the machinery failed."""


class LiveTools:
    """A toolbox of tools that are carried out."""

    def __init__(self, tools: Sequence[Tool]) -> None:
        self._tools = {tool.name: tool for tool in tools}

    @property
    def schemas(self) -> tuple[Mapping[str, Any], ...]:
        """For `Prompt.tools`."""
        return tuple(tool.schema for tool in self._tools.values())

    async def answer(self, call: ToolCall, prompt: Prompt) -> ToolAnswer:
        """The tool's answer; a call that does not fit its schema is answered by the violations."""
        tool = self._tools.get(call.name)
        if tool is None:
            return faulty(CallFault.UNKNOWN, f"no tool {call.name}; there are {', '.join(self._tools)}")
        wrong = violations(tool.parameters, call.arguments)
        if wrong:
            return faulty(CallFault.SCHEMA, "; ".join(wrong))
        return ToolAnswer(text=await tool.call(call.arguments), source=Source.TOOL)


async def answers(
    calls: Sequence[ToolCall | BadCall], toolbox: Toolbox, prompt: Prompt, limit: int = 20, at_once: int = 8
) -> list[ToolAnswer]:
    """One answer per call. The first `limit` calls are carried out, `at_once` of them at a time.

    Raises what the toolbox raises; calls that could not be read are answered.
    """
    gate = asyncio.Semaphore(at_once)

    async def answer(number: int, call: ToolCall | BadCall) -> ToolAnswer:
        if isinstance(call, BadCall):
            return faulty(call.fault, f"{call.why}: {call.text}")
        if number >= limit:
            return faulty(CallFault.TOO_MANY, f"more than {limit} calls in one message")
        async with gate:
            return await toolbox.answer(call, prompt)

    jobs = [asyncio.ensure_future(answer(number, call)) for number, call in enumerate(calls)]
    try:
        return list(await asyncio.gather(*jobs))
    finally:
        for job in jobs:
            job.cancel()


def faulty(fault: CallFault, why: str) -> ToolAnswer:
    """The answer to a call that was not carried out."""
    text = json.dumps({"error": ERROR_MARK, "kind": fault.value, "message": why}, ensure_ascii=False)
    return ToolAnswer(text=text, source=Source.FAULT, fault=fault)
