"""One tool: a name, what it does, the JSON schema of its arguments, and an answer in text."""

from __future__ import annotations

import inspect
import json
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from typing import Any

from jsonschema import Draft202012Validator

SHOWN = 200  # letters of a wrong value in an answer


class Tool(ABC):
    """A tool as a policy sees it. `parameters` is the JSON schema of an object."""

    name: str
    description: str
    parameters: Mapping[str, Any]

    @abstractmethod
    async def call(self, arguments: Mapping[str, Any]) -> str:
        """The answer that the policy reads, errors of its making included. Raises ToolFailure when the tool broke."""

    @property
    def schema(self) -> dict[str, Any]:
        """The tool in the form that chat templates render."""
        function = {"name": self.name, "description": self.description, "parameters": dict(self.parameters)}
        return {"type": "function", "function": function}


class FunctionTool(Tool):
    """A tool that is a Python function of its arguments; what it returns is shown as JSON unless it is a text.

    Example: ``FunctionTool("add", "Adds.", {"type": "object", "properties": {...}}, lambda a, b: a + b)``
    """

    def __init__(
        self, name: str, description: str, parameters: Mapping[str, Any], function: Callable[..., Any]
    ) -> None:
        self.name, self.description, self.parameters = name, description, parameters
        self._function = function

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the function returns."""
        result = self._function(**arguments)
        if inspect.isawaitable(result):
            result = await result
        return result if isinstance(result, str) else json.dumps(result, ensure_ascii=False)


def function_of(schema: Mapping[str, Any]) -> Mapping[str, Any]:
    """Name, description and parameters of a tool's schema, with or without its ``function`` wrapper."""
    inner = schema.get("function", schema)
    if not isinstance(inner, Mapping) or not inner.get("name"):
        raise ValueError(f"a tool without a name: {str(schema)[:SHOWN]}")
    return inner


def violations(parameters: Mapping[str, Any], arguments: Mapping[str, Any]) -> list[str]:
    """Everything wrong with some arguments: required keys, types, enums, and keys that the schema does not know.

    A schema that says nothing about further keys allows none of them.
    """
    schema = dict(parameters) or {"type": "object"}
    if "properties" in schema:
        schema.setdefault("additionalProperties", False)
    errors = Draft202012Validator(schema).iter_errors(dict(arguments))
    return [
        f"{'.'.join(map(str, error.absolute_path)) or 'arguments'}: {error.message[:SHOWN]}"
        for error in sorted(errors, key=lambda error: [str(part) for part in error.absolute_path])
    ]
