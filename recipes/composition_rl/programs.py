"""Programs that a language model has written, run in a sandbox with sympy at hand."""

from __future__ import annotations

from raylign.actors.sandbox.contract import Ending, Program, SandboxError
from raylign.actors.sandbox.local import LocalSandbox
from raylign.actors.sandbox.settings import Limits, SandboxConfig
from raylign.recipes.composition_rl.compose.drive import RunProgram
from raylign.recipes.composition_rl.compose.programs import REFUSED, refusal, reply_of


class Programs:
    """Runs the programs of a composer. timeout_s: of one program."""

    def __init__(self, timeout_s: float) -> None:
        limits = Limits(timeout_s=timeout_s, memory_mb=2048)
        self._sandbox = LocalSandbox(SandboxConfig(limits=limits, packages=["sympy", "mpmath"]))

    async def printed(self, program: RunProgram) -> str:
        """What a program printed, or a text that begins with `FAILED` or `REFUSED` and says why.

        Raises SandboxError when the sandbox itself fails.
        """
        reason = refusal(program.code)
        if reason is not None:
            return f"{REFUSED}{reason}"
        ran = await self._sandbox.arun(Program(code=program.code))
        if ran.reason is Ending.STARVED:
            raise SandboxError(
                "a program waited for a processor until the wall limit; fix: fewer actors on the machine"
            )
        return reply_of(ran.stdout, ran.stderr, "" if ran.reason is Ending.OK else ran.reason.value)

    def close(self) -> None:
        """End the sandbox and whatever runs in it."""
        self._sandbox.close()
