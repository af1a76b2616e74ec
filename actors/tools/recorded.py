"""Tools of a dialogue that was recorded once: its own results where the call is the same, a simulator elsewhere.

Order (CM2, arXiv:2602.12268): a tool that the dialogue does not have, a recorded call, the schema of the arguments, and
only then the chat model, which is shown all recorded calls as examples.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylign.actors.judge.client import judge_problems, shared_judge
from raylign.actors.tools.answers import Source, ToolAnswer, Toolbox, faulty
from raylign.actors.tools.calls import CallFault, ToolCall, canonical
from raylign.actors.tools.tool import function_of, violations
from raylign.config.resolve import Run
from raylign.config.schema import Node
from raylign.errors import Problem, ToolFailure
from raylign.records import Message, Prompt

RECORDED = "recorded"  # key of Prompt.meta: [{"name", "arguments", "result"}]
SCHEMA = {
    "type": "object",
    "properties": {
        "analysis": {"type": "string"},
        "execution_result": {"anyOf": [{"type": "object"}, {"type": "array"}]},
    },
    "required": ["analysis", "execution_result"],
    "additionalProperties": False,
}
ROLE = (
    "You stand in for a tool of a software agent. Below are the tool's schema, calls that were really made in this "
    "dialogue with their real results, and one new call. Answer the new call as the tool would: the same fields and "
    "formats as in the examples, facts that agree with them, and an error object where the real tool would refuse. "
    "First think in `analysis`, then give the result alone in `execution_result`, an object or an array."
)


class RecordedTools(Toolbox):
    """`Toolbox` over ``prompt.tools`` and ``prompt.meta["recorded"]``. Without a simulator unknown calls are faults."""

    @dataclass
    class Config:
        """Who answers calls that were not recorded: fields of `raylign.actors.judge.client.Judge.Config`."""

        simulator: Node = field(default_factory=dict)

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """What is wrong with the simulator."""
        return judge_problems(f"{key}.simulator", config.simulator) if config.simulator else []

    def __init__(self, config: Config) -> None:
        self.config = config

    async def answer(self, call: ToolCall, prompt: Prompt) -> ToolAnswer:
        """See `Toolbox.answer`. The simulator's failures are raised."""
        schemas = {str(function_of(tool)["name"]): function_of(tool) for tool in prompt.tools}
        if call.name not in schemas:
            return faulty(CallFault.UNKNOWN, f"no tool {call.name}; there are {', '.join(schemas)}")
        recorded = self._recorded(prompt)
        for entry in recorded:
            if canonical(entry["name"], entry["arguments"]) == call.key:
                return ToolAnswer(text=_shown(entry["result"]), source=Source.RECORDED)
        wrong = violations(schemas[call.name].get("parameters") or {}, call.arguments)
        if wrong:
            return faulty(CallFault.SCHEMA, "; ".join(wrong))
        if not self.config.simulator:
            raise ToolFailure(f"{call.name} was called as never recorded, and there is no simulator to answer")
        judge = shared_judge(self.config.simulator)
        simulated = await judge.ask(simulation(call, schemas[call.name], recorded), _result, SCHEMA)
        return ToolAnswer(text=_shown(simulated.value), source=Source.SIMULATED, counts=simulated.counts)

    def _recorded(self, prompt: Prompt) -> Sequence[Mapping[str, Any]]:
        recorded: Sequence[Mapping[str, Any]] = prompt.meta.get(RECORDED, ())
        return recorded


def simulation(
    call: ToolCall, schema: Mapping[str, Any], recorded: Sequence[Mapping[str, Any]]
) -> tuple[Message, Message]:
    """The question to the simulator. The last line of the second message is the call, as JSON."""
    examples = [
        f"call: {json.dumps({'name': entry['name'], 'arguments': entry['arguments']}, ensure_ascii=False)}\n"
        f"result: {_shown(entry['result'])}"
        for entry in recorded
    ]
    parts = [
        f"Schema:\n{json.dumps(dict(schema), ensure_ascii=False)}",
        "Real calls:\n" + ("\n".join(examples) or "none"),
        f"New call:\n{json.dumps({'name': call.name, 'arguments': dict(call.arguments)}, ensure_ascii=False)}",
    ]
    return {"role": "system", "content": ROLE}, {"role": "user", "content": "\n\n".join(parts)}


def _result(value: Any) -> Any:
    result = value["execution_result"]
    if not isinstance(result, dict | list):
        raise ValueError(f"execution_result is a {type(result).__name__}")
    return result


def _shown(result: Any) -> str:
    return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)
