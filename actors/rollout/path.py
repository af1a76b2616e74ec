"""One episode under way: the ids as the engine reads them, the turns taken, and the environment that answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from numbers import Real
from typing import Any

import numpy as np

from raylign.actors.environments.episode import Episode
from raylign.actors.rollout.chat import Chat
from raylign.contracts import Completion, Policy, RolloutTask
from raylign.environment import Observation
from raylign.records import Call, Int32s, StopReason, Trajectory, derive_seed

NOTHING = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Where an episode ends whatever its environment says.

    Example: ``Limits(turns=5, tokens=2000)``
    """

    turns: int
    tokens: int  # sampled in the whole episode; 0: as many as the context holds


class Path:
    """A prefix of an episode that `sample` and `act` extend turn by turn, and `fork` splits.

    ``stop`` is None while it may go on. ``messages`` of the environment reach the ids through the chat template's own
    text.
    """

    def __init__(self, task: RolloutTask, index: int, policy: Policy, limits: Limits, episode: Episode) -> None:
        self.task, self.index, self.limits, self.episode = task, index, limits, episode
        self.calls: list[Call] = []
        self.stop: StopReason | None = None
        self._policy = policy
        self._chat = Chat(policy.template, task.prompt.messages, task.prompt.tools)
        self._ids: list[Int32s] = [np.asarray(task.prompt.token_ids, np.int32)]
        self._context = NOTHING  # ids since the last turn
        self._fresh = False  # whether they are all that the next call reads

    @property
    def room(self) -> int:
        """Tokens that the next turn may have."""
        length = sum(map(len, self._ids))
        left = self._policy.max_context - length
        if self.limits.tokens:
            left = min(left, self.limits.tokens - self.sampled)
        return max(0, min(left, self.task.sampling.max_tokens))

    @property
    def sampled(self) -> int:
        """Tokens sampled so far."""
        return sum(len(call.token_ids) for call in self.calls)

    @property
    def score(self) -> float:
        """Rewards of all turns so far."""
        return returned(self.calls)

    def seed(self, *branch: int | str) -> int:
        """Of the next turn's sampling; a search adds what tells its candidates apart (nothing for the first)."""
        return derive_seed(self.task.run_seed, self.task.prompt.key, self.index, len(self.calls), *branch)

    async def sample(self, seed: int) -> Completion:
        """Sample the next completion; the path is unchanged. Only while ``stop`` is None."""
        sampling = replace(self.task.sampling, max_tokens=self.room)
        if self.task.greedy:
            sampling = replace(sampling, temperature=0.0, top_p=1.0, top_k=0)
        return await self._policy.generate(np.concatenate(self._ids), sampling, seed)

    async def act(self, said: Completion) -> Observation:
        """Step the environment with this completion, and append the call to the path."""
        observation = await self.episode.step(said.text)
        flags = dict(observation.flags)
        self.calls.append(
            Call(
                context_ids=self._context,
                fresh=self._fresh,
                token_ids=said.token_ids,
                logprobs=said.logprobs,
                versions=said.versions,
                stop=said.stop,
                text=said.text,
                reward=observation.reward,
                flags=flags,
                observed=observation.messages,
            )
        )
        self._ids.append(np.asarray(said.token_ids, np.int32))
        self.stop = self._ended(said, observation)
        if self.stop is None:
            end = int(said.token_ids[-1]) if said.stop is StopReason.EOS else None
            self._context = self._chat.answered(said.text, end, observation.messages)
            anew = self._chat.anew()
            self._fresh = anew is not None
            if anew is not None:
                self._context, self._ids = anew, []
            self._ids.append(self._context)
            if self.room == 0:
                self.stop = StopReason.LENGTH
        return observation

    async def fork(self, noise: int | None = None) -> Path:
        """The same prefix in an environment of its own. noise: seed of the noise from here on; None: the same."""
        twin = Path(self.task, self.index, self._policy, self.limits, await self.episode.branch(noise))
        twin.calls, twin.stop = list(self.calls), self.stop
        twin._chat, twin._ids = self._chat.fork(), list(self._ids)
        twin._context, twin._fresh = self._context, self._fresh
        return twin

    def trajectory(self, metrics: Mapping[str, float] | None = None) -> Trajectory:
        """The calls and their observations as a trajectory. Final flags that are numbers become metrics."""
        facts = episode_facts(self.calls, self.stop) | {"episode/chat_mismatch": float(self._chat.mismatches)}
        return Trajectory(
            prompt_key=self.task.prompt.key,
            sample_index=self.index,
            calls=tuple(self.calls),
            seed=derive_seed(self.task.run_seed, self.task.prompt.key, self.index, 0),
            stop=self.stop or StopReason.ABORT,
            metrics={**facts, **(metrics or {})},
        )

    def _ended(self, said: Completion, observation: Observation) -> StopReason | None:
        if observation.done:
            return StopReason.DONE
        if said.stop is StopReason.LENGTH and len(said.token_ids) < self.task.sampling.max_tokens:
            return StopReason.LENGTH  # cut by the context or the episode's own limit, not by the turn's
        if len(self.calls) >= self.limits.turns:
            return StopReason.TURNS
        return StopReason.LENGTH if self.limits.tokens and self.sampled >= self.limits.tokens else None


def returned(calls: Sequence[Call]) -> float:
    """Rewards of all turns."""
    return sum(call.reward or 0.0 for call in calls)


def episode_facts(calls: Sequence[Call], stop: StopReason | None) -> dict[str, float]:
    """Metrics of an episode: its length, whether a limit cut it, its return where it has rewards, final flags that are
    numbers. A flag that an environment sets at its own end is not there where the episode was cut.
    """
    final: Mapping[str, Any] = calls[-1].flags if calls else {}
    facts = {f"episode/{name}": float(value) for name, value in final.items() if isinstance(value, Real)}
    facts |= {"episode/turns": float(len(calls)), "episode/cut": float(stop in (StopReason.TURNS, StopReason.LENGTH))}
    return facts | ({"episode/return": returned(calls)} if any(call.reward is not None for call in calls) else {})


async def close_all(paths: Sequence[Path]) -> None:
    """End the environments of some paths."""
    for path in paths:
        await path.episode.close()
