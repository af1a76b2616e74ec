"""Rules of what several sections and many parts hold: optimizers and ways to sample, wherever they stand."""

from __future__ import annotations

import dataclasses
from typing import Any

from raylign.config.findings import Findings, at_most, not_negative, positive, share
from raylign.config.schema import Config, OptimConfig, SamplingConfig

COLDEST, HOTTEST = 0.01, 100.0  # vLLM makes 0.01 of what is colder, without a word
MOST_WEIGHT_DECAY = 1.0


def typed_rules(key: str, settings: Any, config: Config, found: Findings) -> None:
    """All rules of what a part's settings hold, at every depth."""
    for item in dataclasses.fields(settings):
        value, below = getattr(settings, item.name), f"{key}.{item.name}"
        if isinstance(value, OptimConfig):
            optim_rules(found, below, value)
        elif isinstance(value, SamplingConfig):
            sampling_rules(found, below, value)
            room = config.model.max_context - config.data.max_prompt_tokens
            why = f"leaves no room for the prompt's {config.data.max_prompt_tokens} tokens in model.max_context"
            at_most(found, f"{below}.max_tokens", value.max_tokens, room, why)
        elif item.name == "kl_coef":
            why = "pays for running away from the reference; a penalty is positive"
            found.expect(value >= 0, below, value, why, f"set {below}=0 or more")
        elif dataclasses.is_dataclass(value):
            typed_rules(below, value, config, found)


def optim_rules(found: Findings, key: str, optim: OptimConfig) -> None:
    """AdamW and its schedule."""
    positive(found, f"{key}.lr", optim.lr)
    why = "moves every weight by about so much in one step, which no model survives"
    at_most(found, f"{key}.lr", optim.lr, 1.0, why)
    positive(found, f"{key}.eps", optim.eps)
    not_negative(found, f"{key}.max_grad_norm", optim.max_grad_norm)
    not_negative(found, f"{key}.weight_decay", optim.weight_decay)
    why = "takes more from a weight than there is of it"
    at_most(found, f"{key}.weight_decay", optim.weight_decay, MOST_WEIGHT_DECAY, why)
    not_negative(found, f"{key}.warmup_steps", optim.warmup_steps)
    share(found, f"{key}.min_lr_ratio", optim.min_lr_ratio)
    usable = len(optim.betas) == 2 and all(0 <= beta < 1 for beta in optim.betas)
    found.expect(usable, f"{key}.betas", optim.betas, "must be two numbers in [0, 1)", f"set {key}.betas=[0.9,0.95]")


def sampling_rules(found: Findings, key: str, sampling: SamplingConfig) -> None:
    """What an engine can do; 0 is greedy."""
    positive(found, f"{key}.max_tokens", sampling.max_tokens)
    not_negative(found, f"{key}.top_k", sampling.top_k)
    found.expect(0 < sampling.top_p <= 1, f"{key}.top_p", sampling.top_p, "is no share", "choose 0 < top_p <= 1")
    fits = sampling.temperature == 0 or COLDEST <= sampling.temperature <= HOTTEST
    why = f"is not between {COLDEST} and {HOTTEST:g}, which is what engines sample at"
    found.expect(fits, f"{key}.temperature", sampling.temperature, why, f"set {key}.temperature=1, or 0 for greedy")
    why = "holds an empty text, at which an answer would stop before it begins"
    found.expect(all(sampling.stop), f"{key}.stop", sampling.stop, why, "leave the empty text out")
