"""What a run reads before any actor works: tokenizer, chat template and rows, each once, by whoever asks first."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cached_property
from typing import TYPE_CHECKING

from raylign.actors.reward.router import Verifier
from raylign.chat.template import ChatTemplate
from raylign.config.resolve import Run
from raylign.config.schema import DataConfig, Past
from raylign.data.pairs import PairSet, Truncation, load_pairs
from raylign.data.prompts import PromptSet, load_prompts
from raylign.errors import DataError
from raylign.models.tiny import build_tiny_model, model_cache
from raylign.models.tokenizer import load_tokenizer
from raylign.records import Row

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase


class Reading:
    """Of one run. made: of a task or a generator only so many rows, none of them held out; 0: all.

    Everything raises DataError on what cannot be read.
    """

    def __init__(self, run: Run, made: int = 0) -> None:
        self.run, self.cfg = run, run.config
        self.data: DataConfig = run.config.data
        if made and not self.data.path:
            self.data = replace(self.data, size=min(self.data.size or made, made), holdout=0, eval_path="")
        self.demonstrated: dict[str, list[Row]] = {}  # by stage, of those that imitate
        self._pairs: dict[tuple[int, Truncation], PairSet] = {}

    @cached_property
    def start(self) -> str:
        """Folder or id of the model that the run starts from; the tiny one is built when it is not there yet."""
        model = self.cfg.model
        return model.path or str(build_tiny_model(model.tiny, model_cache(self.cfg.run.cache_dir)))

    @cached_property
    def tokenizer(self) -> PreTrainedTokenizerBase:
        """The policy's."""
        try:
            return load_tokenizer(self.start, self.cfg.model.trust_remote_code)
        except (OSError, ValueError, KeyError) as cause:
            why = " ".join(str(cause).split())[:200]
            raise DataError(
                f"model.path = {self.start}: its tokenizer cannot be loaded ({why}); fix: name a folder with "
                "tokenizer.json, or a Hub id that can be read here"
            ) from cause

    @cached_property
    def template(self) -> ChatTemplate:
        """The policy's chat template with the run's arguments."""
        fresh = self.cfg.rollout.past is Past.fresh
        return ChatTemplate(self.tokenizer, self.cfg.model.template_args, fresh=fresh)

    @cached_property
    def prompts(self) -> PromptSet:
        """The run's prompts; a run that learns from pairs alone never asks."""
        return load_prompts(self.data, self.template, self.cfg.seed)

    def pairs(self, max_tokens: int, truncation: Truncation) -> PairSet:
        """The run's preference pairs, cut to a stage's limits."""
        key = (max_tokens, truncation)
        if key not in self._pairs:
            self._pairs[key] = load_pairs(self.data, self.template, max_tokens, truncation, self.cfg.seed)
        return self._pairs[key]

    @property
    def judged(self) -> bool:
        """Whether any reward asks for the verifier that the data imply."""
        return any(issubclass(part.cls, Verifier) for part in self.run.parts.values())

    @property
    def told(self) -> str:
        """What was read of the prompts, and which verifier judges them where one does."""
        report = self.prompts.report
        return f"{report}\n{report.judged_by}" if self.judged else str(report)

    @property
    def seen(self) -> list[str]:
        """What has been read so far."""
        read: Mapping[str, object] = vars(self)
        return [*([self.told] if "prompts" in read else []), *(str(pairs.report) for pairs in self._pairs.values())]
