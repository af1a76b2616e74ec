"""Injection while the model writes: each paragraph begins with words of the behaviour that is planned for it.

    prompt --> marker of b_1 --generate to a blank line--> marker of b_2 --generate--> ... --> the rest, freely

The plan is the chain that `Inject` notes beside the prompt (``form=chain shown=false``). Markers are read by the model
as if it had written them; they are no sampled tokens, and nothing is learned from them.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field, replace
from types import MappingProxyType

import numpy as np

from raylign.actors.rollout.strategies import call_of
from raylign.chat.codec import Before
from raylign.contracts import Completion, Policy, RolloutStrategy, RolloutTask, Sampling
from raylign.environment import Environments
from raylign.errors import RequestError
from raylign.recipes.inject_rbp.behaviours import NAMES, SYMBOLS
from raylign.recipes.inject_rbp.injectant import WHOLE, injectant_of
from raylign.records import Call, Int32s, StopReason, Trajectory, derive_seed
from raylign.tasks import as_finished

MARKERS: Mapping[str, str] = MappingProxyType(
    {
        "O": "Okay,",
        "P": "Next,",
        "S": "So far,",
        "E": "Alternatively,",
        "V": "Let me check:",
        "C": "The final answer is",
    }
)


class Inline(RolloutStrategy):
    """One call of the policy for each paragraph of the plan; the last goes on to the end of the answer.

    `max_tokens` counts markers and sampled tokens together, so that no arm has more room than another. An answer that
    the model ends before its plan is over stays as it is.
    """

    @dataclass
    class Config:
        """How paragraphs are told apart and begun."""

        separator: str = "\n\n"
        markers: dict[str, str] = field(default_factory=dict)  # symbol -> words, in place of `MARKERS`'

        def __post_init__(self) -> None:
            if not self.separator:
                raise ValueError("separator is empty, so that no paragraph would end; set it to a text")
            if unknown := [symbol for symbol in self.markers if symbol not in NAMES]:
                raise ValueError(f"markers: {unknown[0]!r} is no behaviour; choose from {', '.join(SYMBOLS)}")

    config: Config

    def __init__(self, config: Config, environments: Environments | None = None) -> None:
        super().__init__(config)  # environments: offered to every strategy; text alone needs none

    async def run(self, task: RolloutTask, policy: Policy) -> AsyncIterator[Trajectory]:
        """Each trajectory as it finishes. Raises RequestError on a prompt without a plan."""
        chain = str((injectant_of(task.prompt) or {}).get("chain", ""))
        if not chain:
            raise RequestError(
                f"prompt {task.prompt.id} brings no chain to follow; fix: give the stage view={{_target_: "
                "raylign.recipes.inject_rbp.Inject, form: chain, shown: false, ...}"
            )
        samples = as_finished(self._sample(task, policy, index, chain) for index in task.samples)
        async with aclosing(samples):
            async for trajectory in samples:
                yield trajectory

    async def _sample(self, task: RolloutTask, policy: Policy, index: int, chain: str) -> Trajectory:
        written, calls, stop = _Written(task.prompt.token_ids), list[Call](), StopReason.LENGTH
        for step, marker in enumerate(self._markers(policy, chain)):
            written.begin(marker)
            sampling = self._sampling(task, written.room(task, policy), last=step + 1 == len(chain))
            if sampling is None:
                stop = StopReason.LENGTH
                break
            seed = derive_seed(task.run_seed, task.prompt.key, index, step)
            said = await policy.generate(written.ids, sampling, seed)
            calls.append(call_of(said, marker))
            stop = said.stop
            written.go_on(said)
            if stop is not StopReason.STOP or self.config.separator not in said.text:
                break
        return Trajectory(
            prompt_key=task.prompt.key,
            sample_index=index,
            calls=tuple(calls),
            seed=derive_seed(task.run_seed, task.prompt.key, index, 0),
            stop=stop,
            payload={WHOLE: policy.template.text_of(written.after_prompt)},
            metrics={"inline/markers": float(written.forced), "inline/steps": float(len(calls))},
        )

    def _markers(self, policy: Policy, chain: str) -> Iterator[Int32s]:
        """The ids that begin each paragraph, in plain text whatever they spell."""
        for symbol in chain:
            text = self.config.markers.get(symbol, MARKERS[symbol])
            yield np.asarray(policy.template.codec.encode(text, after=Before.TEXT), np.int32)

    def _sampling(self, task: RolloutTask, room: int, last: bool) -> Sampling | None:
        """How the next paragraph is sampled; None without room for a token of it."""
        if room < 1:
            return None
        stop = task.sampling.stop if last else (*task.sampling.stop, self.config.separator)
        sampling = replace(task.sampling, max_tokens=room, stop=stop)
        return replace(sampling, temperature=0.0, top_p=1.0, top_k=0) if task.greedy else sampling


class _Written:
    """The ids so far: the prompt, markers and sampled tokens."""

    def __init__(self, prompt: Int32s) -> None:
        self.ids: Int32s = np.asarray(prompt, np.int32)
        self.forced = 0
        self._prompt = len(prompt)

    @property
    def after_prompt(self) -> Sequence[int]:
        """All but the prompt."""
        return [int(number) for number in self.ids[self._prompt :]]

    def room(self, task: RolloutTask, policy: Policy) -> int:
        """Tokens that may follow."""
        written = len(self.ids) - self._prompt
        return min(task.sampling.max_tokens - written, policy.max_context - len(self.ids))

    def begin(self, marker: Int32s) -> None:
        """A paragraph begins."""
        self.ids = np.concatenate([self.ids, marker])
        self.forced += len(marker)

    def go_on(self, said: Completion) -> None:
        """The model has written."""
        self.ids = np.concatenate([self.ids, said.token_ids])
