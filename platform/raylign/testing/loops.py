"""A run composed for a test, and the real loop over fakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raylign.config.compose import compose
from raylign.config.resolve import Run
from raylign.contracts import Sampling
from raylign.data.source import DatasetSource
from raylign.loop import Loop, LoopSettings, Parts, StepSettings
from raylign.objectives.advantage.group import GRPO
from raylign.objectives.loss.policy import ClippedLoss
from raylign.objectives.selection import KeepAll
from raylign.objectives.shaping import WeightedSum
from raylign.records import Prompt
from raylign.testing.learner import BYTES, VOCAB, FakeLearner
from raylign.testing.records import prompt
from raylign.testing.rewards import FakeRewards
from raylign.testing.rollouts import FakeRollouts

MAX_TOKENS, SEED, PROMPTS = 8, 1, 12


def tiny_run(*overrides: str) -> Run:
    """The run of a command line: every part resolved and checked. Raises ConfigError as ``raylign plan`` does.

    Without ``recipe=`` and ``scale=`` it is ``recipe=grpo scale=tiny``.
    """
    given = {item.partition("=")[0] for item in overrides}
    defaults = [item for item in ("recipe=grpo", "scale=tiny") if item.partition("=")[0] not in given]
    return compose([*defaults, *overrides])


def fake_loop(
    rewards: FakeRewards, prompts: Sequence[Prompt] = (), step: StepSettings | None = None, **given: Any
) -> Loop:
    """The real loop over fakes: GRPO on the sum of the rewards, steps of 4 prompts with 3 samples each.

    prompts: of the data set; empty: `prompt` 0 to 11. given: fields of `Parts` (``advantage=``, ``shaper=``,
    ``source=``, ``learner=``, ``rollouts=``, ``frozen=``, ...) and of `LoopSettings` (``stall_s=``, ...).
    """
    asked = list(prompts) or [prompt(number) for number in range(PROMPTS)]
    numbers: dict[str, Any] = {
        "step": step or StepSettings(steps=0, prompts_per_step=4, group_size=3),
        "seed": SEED,
        "sampling": Sampling(max_tokens=MAX_TOKENS),
        "stall_s": 5.0,
    }
    numbers |= {name: given.pop(name) for name in list(given) if name in LoopSettings.__dataclass_fields__}
    parts: dict[str, Any] = {
        "source": DatasetSource(DatasetSource.Config(), prompts=asked, seed=SEED),
        "rollouts": FakeRollouts(),
        "rewards": rewards,
        "shaper": WeightedSum(WeightedSum.Config(), dict.fromkeys(rewards.names, 1.0), MAX_TOKENS),
        "selector": KeepAll(KeepAll.Config(), seed=SEED),
        "advantage": GRPO(GRPO.Config()),
        "learner": FakeLearner(vocab=BYTES if "rollouts" in given else VOCAB),
        "objective": {"_target_": f"{ClippedLoss.__module__}.ClippedLoss"},
        "objective_needs": ClippedLoss(ClippedLoss.Config()).needs,
    }
    return Loop(Parts(**{**parts, **given}), LoopSettings(**numbers))
