"""The frozen models of a run: references and teachers that fill streams of a batch with their log-probs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from raylign.actors.frozen_model import FrozenModelGroup
from raylign.actors.learner.spec import LearnerSpec
from raylign.actors.remote import in_order
from raylign.actors.routed import RoutedModel, RoutedModels, same_vocabulary
from raylign.actors.watching import Starting, unseen
from raylign.chat.template import ChatTemplate
from raylign.config.resolve import Run
from raylign.contracts import FrozenStream
from raylign.errors import ConfigError, LearnerError, Problem
from raylign.models.tokenizer import load_tokenizer
from raylign.records import Prompt


class FrozenModels:
    """Started when a stream is first asked for, and again where a path means another model by then."""

    def __init__(
        self,
        run: Run,
        template: ChatTemplate,
        *,
        model_of: Callable[[str], str],
        options: Callable[[str], Callable[[int], dict[str, Any]]],
        log_dir: Path,
        replaced: Callable[[str, LearnerError], None],
        starting: Starting = unseen,
    ) -> None:
        self.run, self._template, self._model_of = run, template, model_of
        self._options, self._log_dir, self._replaced, self._starting = options, log_dir, replaced, starting
        self._groups: dict[str, tuple[str, FrozenModelGroup]] = {}  # name -> (loaded path, group)

    @property
    def groups(self) -> list[FrozenModelGroup]:
        """Those that run."""
        return [group for _, group in self._groups.values()]

    async def fill(self, streams: Collection[str], prompts: Sequence[Prompt], shared: bool) -> dict[str, FrozenStream]:
        """Who fills each of these streams that any frozen model of the run fills; started, and checked to answer for
        all of these prompts. One without a path is a copy of the model that the stage starts from.

        Raises ConfigError on a model with another vocabulary, DataError on a domain without a model.
        """
        wanted = {name: frozen for name, frozen in self.run.config.frozen.items() if frozen.stream in streams}
        models = await in_order([partial(self._model, name) for name in wanted], shared)
        routed: dict[str, FrozenStream] = {}
        for stream in sorted({frozen.stream for frozen in wanted.values()}):
            frozen = RoutedModels(stream, [model for model in models if wanted[model.name].stream == stream])
            frozen.check(prompts)
            routed[stream] = frozen
        return routed

    async def _model(self, name: str) -> RoutedModel:
        cfg, frozen = self.run.config, self.run.config.frozen[name]
        path = self._model_of(frozen.path)
        policy = self._template.tokenizer
        tokenizer = policy
        if frozen.path:
            tokenizer = await asyncio.to_thread(load_tokenizer, path, cfg.model.trust_remote_code)
        same_vocabulary(policy, tokenizer, f"frozen.{name}.path", path)
        if self._template.fresh and (frozen.own_template or frozen.context):
            why = "the context of a frozen model stands for the first one of an episode only"
            fix = "set rollout.past=keep, or leave own_template and context out"
            raise ConfigError([Problem(key="rollout.past", value="fresh", why=f"{why} (frozen.{name})", fix=fix)])
        own = ChatTemplate(tokenizer, frozen.template_args) if frozen.own_template else None
        context = self.run.parts[f"frozen.{name}.context"].build() if frozen.context else None
        return RoutedModel(
            name=name,
            frozen=await self._group(name, path),
            domain=frozen.domain,
            tokenizer=self._template if own is None and context is not None else own,
            context=context,
        )

    async def _group(self, name: str, path: str) -> FrozenModelGroup:
        """The actor of a model, holding the weights at `path`."""
        cfg, frozen = self.run.config, self.run.config.frozen[name]
        loaded, group = self._groups.get(name, ("", None))
        if group is None or loaded != path:
            if group is not None:
                await group.close()
            learner = replace(cfg.learner, ranks=1, gpus=frozen.gpus, cpus=frozen.cpus)
            group = FrozenModelGroup(
                LearnerSpec.of(cfg, "causal_lm", path, learner, 0),
                name=name,
                log_dir=self._log_dir,
                options=self._options(f"frozen/{name}"),
                restarted=lambda cause: self._replaced(name, cause),
            )
            self._groups[name] = (path, group)
            with self._starting(f"frozen model {name}"):
                await group.start()
        return group

    async def close(self) -> None:
        """End all of them; the next call of `fill` starts new ones."""
        groups = self.groups
        self._groups.clear()
        await asyncio.gather(*(group.close() for group in groups))
