"""Python for a policy that uses tools: each call is a program in a sandbox, and its answer is what it printed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from raylign.actors.sandbox.contract import Ending, Program, Sandbox, SandboxError
from raylign.actors.sandbox.local import LocalSandbox
from raylign.actors.sandbox.settings import SandboxConfig
from raylign.actors.tools.tool import Tool
from raylign.errors import ToolFailure

CUT = "\n[... cut ...]\n"
ENDED = {
    Ending.TIMEOUT: "[killed: no end after {timeout_s:g} s]",
    Ending.MEMORY: "[out of memory]",
    Ending.KILLED: "[the process died of signal {signal}]",
    Ending.OUTPUT_LIMIT: "[killed: too much output]",
}


class PythonTool(Tool):
    """The tool ``python(code)``. Every call starts afresh: nothing is left of an earlier one.

    A program that fails is an answer (its traceback); a sandbox that fails raises ToolFailure.
    """

    name = "python"
    description = "Run a Python program and return what it prints. Each call is a new process without network."
    parameters: Mapping[str, Any] = MappingProxyType(
        {
            "type": "object",
            "properties": {"code": {"type": "string", "description": "The program. Print what you want to see."}},
            "required": ["code"],
            "additionalProperties": False,
        }
    )

    @dataclass
    class Config:
        """Limits of a call."""

        sandbox: SandboxConfig = field(default_factory=SandboxConfig)
        longest: int = 4000  # characters of an answer; the middle of a longer one is cut out

        def __post_init__(self) -> None:
            if self.longest <= 2 * len(CUT):
                raise ValueError(f"longest={self.longest} must be more than {2 * len(CUT)}")

    def __init__(self, config: Config | None = None, sandbox: Sandbox | None = None) -> None:
        self.config = config or self.Config()
        self.sandbox = sandbox or LocalSandbox(self.config.sandbox)

    async def call(self, arguments: Mapping[str, Any]) -> str:
        """What the program printed, then how it ended if not well. Raises ValueError on arguments that do not fit."""
        code = arguments.get("code")
        if not isinstance(code, str) or len(arguments) != 1:
            raise ValueError(f"python takes one text, 'code'; got {', '.join(map(str, arguments)) or 'nothing'}")
        try:
            ran = await self.sandbox.arun(Program(code=code))
        except SandboxError as error:
            raise ToolFailure(f"python: {error}") from error
        if ran.reason is Ending.STARVED:
            raise ToolFailure("python: the program waited for a processor until the wall limit; fix: fewer workers")
        ending = ENDED.get(ran.reason, "").format(timeout_s=self.config.sandbox.limits.timeout_s, signal=-ran.exit)
        said = "\n".join(part for part in (ran.stdout.rstrip(), ran.stderr.rstrip(), ending) if part)
        return self._cut(said) or "[no output]"

    def _cut(self, text: str) -> str:
        if len(text) <= self.config.longest:
            return text
        half = (self.config.longest - len(CUT)) // 2
        return text[:half] + CUT + text[-half:]
