"""One policy in two roles: the first samples of a question solve it, the others write strategies to verify solutions.

question --solver's prompt--> s_1 .. s_N
         --verifier's prompt-> v_1 .. v_M         sees the question, and no solution
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from raylign.actors.rollout.strategies import SingleTurn, call_of
from raylign.config.findings import Findings
from raylign.config.resolve import ResolvedStage, Run
from raylign.contracts import Policy, RolloutTask
from raylign.data.questions import question_of, said_instead
from raylign.errors import Problem
from raylign.recipes.sci_coe.prompts import QUESTION, SOLVER, VERIFIER
from raylign.records import Int32s, Message, Prompt, Trajectory, derive_seed

SOLVES, VERIFIES = "solver", "verifier"  # roles of calls


class SolveAndVerify(SingleTurn):
    """Samples 0 .. `solutions` - 1 of a prompt solve it, the following `strategies` verify; one call each.

    Each role reads a context of its own: the prompt's messages, with the question in the role's template in place of
    `data.template`. Another number of samples is refused where the run is composed, but for a single one, which solves.
    """

    roles = (SOLVES, VERIFIES)

    @dataclass
    class Config(SingleTurn.Config):
        """How many of each role, and what they are told."""

        solutions: int = 8  # N
        strategies: int = 8  # M
        solver: str = SOLVER
        verifier: str = VERIFIER
        strategy_tokens: int = 256  # that a strategy may have, beside rollout.sampling.max_tokens

        def __post_init__(self) -> None:
            for name in ("solutions", "strategies", "strategy_tokens"):
                if getattr(self, name) < 1:
                    raise ValueError(f"{name} is {getattr(self, name)}, set it to 1 or more")
            for name in ("solver", "verifier"):
                if QUESTION not in getattr(self, name):
                    raise ValueError(f"{name} has no {QUESTION}, so that every question would be the same")

    @classmethod
    def problems(cls, key: str, config: Config, run: Run) -> list[Problem]:
        """Every stage that samples by it takes as many samples as there are of both roles."""
        findings, wanted = Findings(), config.solutions + config.strategies
        for stage in run.stages:
            counts = _samples(stage) if "rollout" in stage.roles else {}
            own = f"{stage.key}.strategy"
            for name, count in counts.items():
                asked_by_own = own in run.parts and name != "eval_samples"  # evaluations take the run's
                if (own if asked_by_own else "rollout.strategy") == key and count not in (wanted, *_alone(name)):
                    why = f"is not the {config.solutions} solutions and {config.strategies} strategies of {key}"
                    findings.expect(False, f"{stage.key}.{name}", count, why, f"set {stage.key}.{name}={wanted}")
        return findings

    config: Config

    async def _sample(self, task: RolloutTask, policy: Policy, index: int) -> Trajectory:
        solves = index < self.config.solutions
        template = self.config.solver if solves else self.config.verifier
        sampling = replace(task.sampling, temperature=0.0, top_p=1.0, top_k=0) if task.greedy else task.sampling
        if not solves:
            sampling = replace(sampling, max_tokens=min(sampling.max_tokens, self.config.strategy_tokens))
        messages = in_role(task.prompt, template)
        ids: Int32s = np.asarray(policy.template.prompt_ids(messages, task.prompt.tools), np.int32)
        seed = derive_seed(task.run_seed, task.prompt.key, index, 0)
        said = await policy.generate(ids, sampling, seed)
        call = replace(call_of(said, ids), fresh=True, role=SOLVES if solves else VERIFIES)
        return Trajectory(prompt_key=task.prompt.key, sample_index=index, calls=(call,), seed=seed, stop=said.stop)


def in_role(prompt: Prompt, template: str) -> tuple[Message, ...]:
    """The prompt's messages with its question in the role's template, which takes the place of `data.template`."""
    return said_instead(prompt, template.replace(QUESTION, question_of(prompt)))


def role_of(trajectory: Trajectory) -> str:
    """The role of its calls; the solver's where nobody has named one (a probe, another strategy's sample)."""
    return trajectory.calls[0].role or SOLVES if trajectory.calls else SOLVES


def _samples(stage: ResolvedStage) -> dict[str, int]:
    """The settings of a stage that say how many samples of a prompt it takes, where it takes any."""
    settings = vars(stage.config)
    names = ["group_size", "samples"] + (["eval_samples"] if settings.get("eval_every") else [])
    return {name: settings[name] for name in names if name in settings}


def _alone(name: str) -> tuple[int, ...]:
    """A single sample of an evaluation solves."""
    return (1,) if name == "samples" else ()
