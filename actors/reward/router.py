"""The platform's default reward: each prompt is judged by the verifier that its data set implies."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from raylign.actors.reward.boxed import BoxedMath
from raylign.actors.reward.exact import ExactMatch
from raylign.actors.reward.numeric import NumericAnswer
from raylign.actors.reward.procedural import ProceduralScore
from raylign.actors.reward.unit_tests import UnitTests
from raylign.config.nearest import nearest
from raylign.config.resolve import Run
from raylign.contracts import RewardFunction
from raylign.errors import Problem
from raylign.records import Prompt, Trajectory, Value

VERIFIERS = ("gsm8k", "boxed_math", "reasoning_gym", "exact", "unit_tests")


class Verifier(RewardFunction):
    """Routes by ``prompt.meta["verifier"]`` to one of `VERIFIERS`; a prompt without one is an error, not a zero.

    Every verdict runs in the killable child, the cheap ones too: the way there and back costs about 0.1 ms.
    """

    isolated = True

    @dataclass
    class Config:
        """The settings of each verifier."""

        gsm8k: NumericAnswer.Config = field(default_factory=NumericAnswer.Config)
        boxed_math: BoxedMath.Config = field(default_factory=BoxedMath.Config)
        reasoning_gym: ProceduralScore.Config = field(default_factory=ProceduralScore.Config)
        exact: ExactMatch.Config = field(default_factory=ExactMatch.Config)
        unit_tests: UnitTests.Config = field(default_factory=UnitTests.Config)

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """`data.verifier` must name a verifier."""
        name = run.config.data.verifier
        if not name or name in VERIFIERS:
            return []
        why = f"is none of {', '.join(VERIFIERS)}, which {key} knows"
        return [
            Problem(
                key="data.verifier", value=name, why=why, fix=f"{nearest(name, VERIFIERS)} (empty: as the data implies)"
            )
        ]

    def __init__(self, config: Config) -> None:
        # All are made here, in the zygote, so that no verdict's deadline pays for an import.
        self._verifiers: Mapping[str, RewardFunction] = {
            "gsm8k": NumericAnswer(config.gsm8k),
            "boxed_math": BoxedMath(config.boxed_math),
            "reasoning_gym": ProceduralScore(config.reasoning_gym),
            "exact": ExactMatch(config.exact),
            "unit_tests": UnitTests(config.unit_tests),
        }

    def score(self, prompt: Prompt, trajectories: Sequence[Trajectory]) -> Sequence[Value | None]:
        """What the prompt's verifier says. Raises ValueError when it names none, or one that does not exist."""
        return self._of(prompt).score(prompt, trajectories)

    def cpu_limit(self, prompt: Prompt) -> float | None:
        """The limit of the prompt's verifier."""
        verifier = self._verifiers.get(str(prompt.meta.get("verifier")))
        return None if verifier is None else verifier.cpu_limit(prompt)

    def gold(self, prompt: Prompt) -> str | None:
        """The gold response of the prompt's verifier."""
        return self._of(prompt).gold(prompt)

    def wrong(self, prompt: Prompt) -> str | None:
        """The wrong response of the prompt's verifier."""
        return self._of(prompt).wrong(prompt)

    def _of(self, prompt: Prompt) -> RewardFunction:
        name: Any = prompt.meta.get("verifier")
        if name not in self._verifiers:
            raise ValueError(f"the prompt's verifier is {name!r}; set data.verifier to one of {', '.join(VERIFIERS)}")
        return self._verifiers[name]
