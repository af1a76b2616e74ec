"""A chat model that plays episodes in the place of the policy's engines: it speaks, the environment answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from raylign.actors.environments.episode import EnvironmentCounters, Episode, EpisodeDiverged
from raylign.actors.judge.chat import ChatModel
from raylign.actors.judge.rollouts import ChatRollouts
from raylign.actors.rollout.multi_turn import MultiTurn
from raylign.actors.rollout.path import episode_facts
from raylign.chat.messages import ASSISTANT, TOOL
from raylign.contracts import RolloutTask
from raylign.environment import Environments
from raylign.errors import EnvironmentLost
from raylign.records import Call, Message, StopReason, Trajectory, derive_seed


class ChatEpisodes(ChatRollouts):
    """Episodes under the limits of `MultiTurn`, seeded as its own are; a token limit of the whole episode ends one
    where the model counts its tokens. What an environment says as a tool the model reads as the user's words: it made
    no call that a chat protocol knows.

    Each turn has a text and no ids. An environment that cannot be kept alive fails the sample with the reason.
    """

    def __init__(self, model: ChatModel, environments: Environments, limits: MultiTurn.Config) -> None:
        super().__init__(model)
        self._environments, self._limits = environments, limits
        self.counters = EnvironmentCounters()

    async def _answered(self, task: RolloutTask, index: int, empty: Trajectory) -> Trajectory | str:
        why = ""
        for _ in range(self._limits.retries + 1):
            try:
                return await self._episode(task, index, empty)
            except (EnvironmentLost, EpisodeDiverged) as error:
                why = f"no environment: {error}"
                self.counters.restarted += 1
        return why

    async def _episode(self, task: RolloutTask, index: int, empty: Trajectory) -> Trajectory:
        noise = derive_seed(task.run_seed, task.prompt.key, 0 if self._limits.shared_noise else index, "world")
        episode = await Episode.open(self._environments, task.prompt, noise, self._limits.retries, self.counters)
        calls, tokens = list[Call](), 0
        stop, messages = None, list(task.prompt.messages)
        try:
            while stop is None:
                seed = derive_seed(task.run_seed, task.prompt.key, index, len(calls))
                call, counted = await self._said(task, messages, seed)
                observation, tokens = await episode.step(call.text), tokens + counted
                call = replace(
                    call, reward=observation.reward, flags=dict(observation.flags), observed=observation.messages
                )
                calls.append(call)
                messages += [{"role": ASSISTANT, "content": call.text}, *_readable(observation.messages)]
                stop = self._ended(observation.done, len(calls), tokens)
        finally:
            await episode.close()
        counts = {"reply_tokens": float(tokens)} if tokens else {}
        return replace(empty, calls=tuple(calls), stop=stop, metrics=episode_facts(calls, stop) | counts)

    def _ended(self, done: bool, turns: int, tokens: int) -> StopReason | None:
        if done:
            return StopReason.DONE
        if turns >= self._limits.max_turns:
            return StopReason.TURNS
        return StopReason.LENGTH if 0 < self._limits.max_episode_tokens <= tokens else None


def _readable(messages: Sequence[Message]) -> list[Message]:
    return [{**message, "role": "user"} if message["role"] == TOOL else message for message in messages]
