"""Programs judged by unit tests, in a sandbox that they cannot forge a verdict from."""

from __future__ import annotations

import re
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from raylign.actors.reward.mbpp import Calls, Comparison, calls_of
from raylign.actors.reward.response import ResponseReward
from raylign.actors.sandbox.clock import wall_seconds
from raylign.actors.sandbox.contract import Ending, Program, Ran, Sandbox, SandboxError
from raylign.actors.sandbox.local import LocalSandbox
from raylign.actors.sandbox.settings import SandboxConfig
from raylign.actors.sandbox.values import same, truthy, uncomparable
from raylign.config.build import build
from raylign.records import Prompt, Value

# possessive: a response of blanks alone costs no more than its length
BLOCK = re.compile(r"```[ \t]*+(?:python3?+|py)?+[ \t]*+\n(.*?)(?:```|\Z)", re.DOTALL | re.IGNORECASE)
TOO_HEAVY = (Ending.TIMEOUT, Ending.MEMORY, Ending.OUTPUT_LIMIT)
REMEMBERED = 4096  # prompts whose reference answers are kept
SLOWDOWN = 5.0  # the deadline is this many times the reference's time where that is more than the limit
REFERENCE_TIMEOUT_S = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Reference:
    """A function's calls, what the reference solution answers, and how long it takes.

    Example: ``Reference(calls=Calls(entry="f", ...), expected=(4, 6), seconds=0.01)``
    """

    calls: Calls
    expected: tuple[Any, ...]  # encoded, one per call
    seconds: float  # of its own time


class UnitTests(ResponseReward):
    """1 when the response's code passes every test of its prompt, else 0; with `fraction`, the share that it passes.

    The prompt is a row of MBPP+ (see `mbpp`), its answer the reference solution. Expected values never enter the
    program's process: the sandbox calls the program's function, its answers come back as plain data, and this process
    compares them with the reference's. So no patched assert, forged report, early exit or always-equal object scores.

    Code that fails, hangs, sleeps or prints too much scores 0. Its deadline is its own time (see `sandbox.clock`): what
    waits for a processor beside busy neighbours is given longer, is run again when even that was not enough, and then
    raises. A sandbox that fails raises, too, which makes the reward missing.
    The pool's own deadline (`rewards.<name>.timeout_s`) must be longer than the sandbox's.
    """

    @dataclass
    class Config:
        """What counts, and where it runs."""

        fraction: bool = False
        plus: bool = True  # MBPP+'s further inputs, beside MBPP's own
        sandbox: SandboxConfig = field(default_factory=SandboxConfig)
        backend: dict[str, Any] | None = None  # another sandbox, as a node with `_target_`; then `sandbox` is not used

    def __init__(self, config: Config) -> None:
        self.config = config
        self.sandbox: Sandbox = (
            LocalSandbox(config.sandbox) if config.backend is None else build(Sandbox, config.backend, "backend")
        )
        self._references: OrderedDict[str, Reference] = OrderedDict()

    def judge(self, prompt: Prompt, response: str) -> Value:
        """Run the response's code. Raises SandboxError, and ValueError when the reference solution is unusable."""
        known = self.reference(prompt)
        code = code_of(response, known.calls.entry)
        if not code:
            return Value(score=0.0, details={"reason": "no code", "passed": 0, "tests": len(known.expected)})
        timeout_s = max(self.config.sandbox.limits.timeout_s, SLOWDOWN * known.seconds)
        ran = self._run(code, known.calls, timeout_s)
        passed = verdicts(ran, known)
        whole = all(passed) and ran.reason is Ending.OK
        score = sum(passed) / len(passed) if self.config.fraction else float(whole)
        details = {"reason": ran.reason.value, "passed": sum(passed), "tests": len(passed), "seconds": ran.seconds}
        return Value(score=score, details=details)

    def reference(self, prompt: Prompt) -> Reference:
        """The prompt's calls and the reference's answers to them, from memory or by running it."""
        reference = self._references.get(prompt.id)
        if reference is None:
            reference = self._references[prompt.id] = self._run_reference(prompt)
            if len(self._references) > REMEMBERED:
                self._references.popitem(last=False)
        return reference

    def gold(self, prompt: Prompt) -> str | None:
        """The reference solution in a code block."""
        return None if prompt.answer is None else f"```python\n{str(prompt.answer).strip()}\n```"

    def wrong(self, prompt: Prompt) -> str | None:
        """A function of that name that answers nothing."""
        entry = prompt.meta.get("entry_point")
        return None if entry is None else f"```python\ndef {entry}(*_, **__):\n    return None\n```"

    def _run_reference(self, prompt: Prompt) -> Reference:
        """The further calls from the first one on that is too heavy for the limits are left out."""
        if not prompt.answer:
            raise ValueError("the prompt has no reference solution")
        calls = calls_of(prompt.meta, self.config.plus)
        ran = self._run(str(prompt.answer), calls, REFERENCE_TIMEOUT_S)
        wrong = [answer.error for answer in ran.returned if answer.error is not None]
        whole = ran.reason is Ending.OK and len(ran.returned) == len(calls.arguments)
        heavy = ran.reason in TOO_HEAVY and len(ran.returned) >= len(prompt.meta["base_input"])
        if wrong or not (whole or heavy):
            why = wrong[0] if wrong else f"{ran.reason.value} {ran.stderr[-200:]}"
            raise ValueError(f"the reference solution of {calls.entry} fails its own tests: {why}")
        opaque = [name for answer in ran.returned if (name := uncomparable(answer.value))]
        if opaque and calls.comparison is not Comparison.truth:
            raise ValueError(f"the reference solution of {calls.entry} returns a {opaque[0]}, which equals no answer")
        calls = replace(calls, arguments=calls.arguments[: len(ran.returned)])
        return Reference(calls=calls, expected=tuple(answer.value for answer in ran.returned), seconds=ran.seconds)

    def _run(self, code: str, calls: Calls, timeout_s: float) -> Ran:
        program = Program(code=code, entry=calls.entry, calls=calls.arguments, timeout_s=timeout_s)
        ran = self.sandbox.run(program)
        if ran.reason is Ending.STARVED:
            ran = self.sandbox.run(program)
        if ran.reason is Ending.STARVED:
            raise SandboxError(
                f"{calls.entry}: twice no end within {wall_seconds(timeout_s):g} s, of which {ran.seconds:.2f} s were "
                "its own, the rest it waited for a processor; fix: fewer reward workers, or a smaller concurrency"
            )
        return ran


def code_of(response: str, entry: str) -> str:
    """The last code block that defines the function, else the last one; empty without any."""
    blocks: Sequence[str] = BLOCK.findall(response)
    defining = [block for block in blocks if re.search(rf"\b{re.escape(entry)}\b", block)]
    return (defining or blocks or [""])[-1].strip()


def verdicts(ran: Ran, known: Reference) -> list[bool]:
    """Which tests passed. Answers are taken by their order; a call without one, or with one too many, has failed."""
    if len(ran.returned) > len(known.expected):
        return [False] * len(known.expected)
    passed = [
        answer.error is None and _agrees(expected, answer.value, known.calls)
        for expected, answer in zip(known.expected, ran.returned, strict=False)
    ]
    return passed + [False] * (len(known.expected) - len(passed))


def _agrees(expected: Any, got: Any, calls: Calls) -> bool:
    if calls.comparison is Comparison.truth:
        return truthy(expected) == truthy(got)
    return same(expected, got, calls.tolerance, unordered=calls.comparison is Comparison.unordered)
