"""Episodes of several turns against an environment: the policy speaks, the environment answers, until one of them is
done.

    prompt ids --generate--> turn --text--> environment --messages--> template's suffix --ids--> generate ...

Episodes do not wait for one another: each goes on the moment its own turn is there.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import aclosing
from dataclasses import dataclass

from raylign.actors.environments.episode import EnvironmentCounters, Episode, EpisodeDiverged
from raylign.actors.rollout.path import Limits, Path, close_all
from raylign.contracts import Policy, Refused, RolloutStrategy, RolloutTask
from raylign.environment import Environments
from raylign.errors import EnvironmentLost, RequestError
from raylign.records import Trajectory, derive_seed
from raylign.tasks import as_finished


class MultiTurn(RolloutStrategy):
    """One episode per sample.

    The seed of turn t of sample i is ``derive_seed(run_seed, prompt.key, i, t)``, that of its environment's chance
    ``derive_seed(run_seed, prompt.key, i, "world")``, so that an episode is the same whoever rolls it out, and however
    often. A prompt whose environment cannot be kept alive is refused: its reward is Missing.
    """

    @dataclass
    class Config:
        """Limits of an episode; `rollout.sampling.max_tokens` is that of one turn."""

        max_turns: int = 8
        max_episode_tokens: int = 0  # sampled tokens, 0: what the context holds
        shared_noise: bool = False  # all samples of a prompt meet the same chance
        retries: int = 2  # times that a lost environment is taken up again, and that an episode starts over

        def __post_init__(self) -> None:
            if self.max_turns < 1:
                raise ValueError(f"max_turns is {self.max_turns}, set it to 1 or more")
            if self.max_episode_tokens < 0 or self.retries < 0:
                raise ValueError("max_episode_tokens and retries must be 0 or more")

    def __init__(self, config: Config, environments: Environments | None = None) -> None:
        if environments is None:
            raise ValueError("a multi-turn strategy needs an environment: set environment.fn._target_")
        self.config = config
        self.environments = environments
        self.counters = EnvironmentCounters()

    async def run(self, task: RolloutTask, policy: Policy) -> AsyncIterator[Trajectory | Refused]:
        """Each trajectory as it finishes; one whose prompt does not fit or whose environment is lost is refused."""
        episodes = as_finished(self._sample(task, policy, index) for index in self.starts(task))
        async with aclosing(episodes):
            async for results in episodes:
                for result in results:
                    if result.sample_index in task.samples:
                        yield result

    def starts(self, task: RolloutTask) -> Sequence[int]:
        """Sample indices to run; a search may fill several indices from one of them (`made_by`)."""
        return task.samples

    async def episodes(self, task: RolloutTask, policy: Policy, index: int) -> list[Trajectory]:
        """The trajectories of one index of `starts`."""
        return [await self.episode(task, policy, index)]

    async def episode(self, task: RolloutTask, policy: Policy, index: int) -> Trajectory:
        """One episode from its start to its end."""
        path = await self.begin(task, policy, index)
        try:
            while path.stop is None:
                await path.act(await path.sample(path.seed()))
            return path.trajectory()
        finally:
            await close_all([path])

    async def begin(self, task: RolloutTask, policy: Policy, index: int) -> Path:
        """A new episode of a sample."""
        limits = Limits(turns=self.config.max_turns, tokens=self.config.max_episode_tokens)
        noise_index = 0 if self.config.shared_noise else index
        noise = derive_seed(task.run_seed, task.prompt.key, noise_index, "world")
        episode = await Episode.open(self.environments, task.prompt, noise, self.config.retries, self.counters)
        return Path(task, index, policy, limits, episode)

    def made_by(self, task: RolloutTask, index: int) -> Sequence[int]:
        """The sample indices that one index of `starts` fills."""
        return (index,)

    async def _sample(self, task: RolloutTask, policy: Policy, index: int) -> Sequence[Trajectory | Refused]:
        for left in reversed(range(self.config.retries + 1)):
            try:
                return await self.episodes(task, policy, index)
            except (EnvironmentLost, EpisodeDiverged) as error:
                if not left:
                    return self._refused(task, index, f"no environment: {error}")
                self.counters.restarted += 1
            except RequestError as error:
                return self._refused(task, index, str(error))
        raise AssertionError("the last try returns or raises")

    def _refused(self, task: RolloutTask, index: int, reason: str) -> list[Refused]:
        return [Refused(sample_index=sample, reason=reason) for sample in self.made_by(task, index)]
