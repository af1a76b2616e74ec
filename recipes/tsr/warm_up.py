"""The warm start of scale=tiny: imitate turns of random play, so that every turn can be read as actions."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from raylign.actors.environments.agent_format import SEPARATOR, AgentFormat
from raylign.actors.environments.games.board import BoardGame
from raylign.actors.environments.turns import AgentLimits
from raylign.actors.environments.webshop.shop import LETTERS, WebShop
from raylign.chat.template import ChatTemplate
from raylign.config.build import build
from raylign.environment import Environment
from raylign.errors import DataError
from raylign.recipes.stages.demonstrations import demonstrations
from raylign.recipes.stages.sft import ReadRun, Sft
from raylign.records import Message, Prompt, Row, derive_seed


class WarmUp(Sft):
    """Fine-tune on random play in the run's own environment: every turn of `episodes` episodes per training prompt.

    Blocks are of 1 .. `actions_per_turn` actions, all lengths and all actions that are legal equally likely, so what is
    learned is the format and nothing about the game.
    """

    @dataclass
    class Config(Sft.Config):
        """Amount of random play."""

        episodes: int = 16  # per training prompt

        def __post_init__(self) -> None:
            super().__post_init__()
            if self.episodes < 1:
                raise ValueError(f"episodes is {self.episodes}, set it to 1 or more")

    def __init__(self, config: Config, name: str) -> None:
        super().__init__(config, name)
        self.config: WarmUp.Config = config

    def rows(self, context: ReadRun) -> list[Row]:
        """Every turn after what was seen and said before it. Raises DataError in an environment that it cannot play."""
        cfg, turns = context.cfg, list[Prompt]()
        for prompt in context.prompts.train:
            for episode in range(self.config.episodes):
                environment = build(Environment, cfg.environment.fn, "environment.fn")
                seed = derive_seed(cfg.seed, prompt.id, "random play", episode)
                turns += _rendered(random_turns(environment, prompt, seed), context.template)
        return demonstrations(turns, context.template)


def random_turns(environment: Environment, prompt: Prompt, seed: int) -> Iterator[tuple[tuple[Message, ...], str]]:
    """Play an episode at random; (messages before, text) of each turn. Raises DataError in an unknown kind of
    environment.
    """
    rng = random.Random(seed)
    observation: Any = environment.reset(prompt, seed)
    messages = tuple(prompt.messages)
    while not observation.done:
        text = random_block(environment, rng)
        yield messages, text
        observation = environment.step(text)
        messages = (*messages, {"role": "assistant", "content": text}, *observation.messages)


def random_block(environment: Environment, rng: random.Random) -> str:
    """One legal turn in the format of the environment."""
    if isinstance(environment, BoardGame):
        limits: AgentLimits = environment.limits
        names = list(environment.names)
        letters = [name[0] for name in names]
    elif isinstance(environment, WebShop):
        limits = environment.config
        names = [name.replace("search[words]", f"search[{environment.goal.query}]") for name in environment.actions()]
        letters = list(LETTERS[: len(names)])
    else:
        raise DataError(f"nobody knows the legal actions of {type(environment).__name__}; leave the warm-up out")
    compact = limits.format is AgentFormat.letters
    block = rng.choices(letters if compact else names, k=rng.randint(1, limits.actions_per_turn))
    return "".join(block) if compact else f"<think></think><answer>{f' {SEPARATOR} '.join(block)}</answer>"


def _rendered(turns: Iterator[tuple[Sequence[Message], str]], template: ChatTemplate) -> Iterator[Prompt]:
    for number, (messages, text) in enumerate(turns):
        ids = np.asarray(template.prompt_ids(messages), np.int32)
        yield Prompt(id=str(number), messages=tuple(messages), token_ids=ids, meta={"target": text})
