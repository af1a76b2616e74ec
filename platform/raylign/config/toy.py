"""A recipe's toy, and what of it does not belong to whoever brings a model or data of their own.

The scale that is taken without a name is the toy's: with one's own, a scale must be named. How many rows the toy makes
and holds out says nothing about a file.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from raylign.config.culprit import short, within
from raylign.config.emptied import leaves
from raylign.config.layers import COMMAND_LINE, Layers
from raylign.errors import Problem

TOY = "tiny"
BROUGHT = ("model.path", "data.path", "data.eval_path")  # by whatever layer
NAMED = ("data.task", "data.generator", "environment.fn")  # a recipe has its own; on the command line they are others


def unnamed_scale(layers: Layers, scales: Sequence[str]) -> list[Problem]:
    """The problem of a run that brings its own model, data or environment and names no scale; none for any other.

    layers: all of them merged, the toy's block included. scales: what there is to choose from.
    """
    own = next((f"{key}={value}" for key, value in _brought(layers)), "")
    if not own:
        return []
    others = ", ".join(name for name in scales if name not in (TOY, "gpu"))
    why = f"{own} is your own, and without a scale it would get a toy's numbers ({', '.join(_numbers(layers.tree))})"
    fix = f"add scale=gpu (also {others}), or scale={TOY} for the toy's numbers on a CPU"
    return [Problem(key="scale", value="absent", why=why, fix=fix)]


def count_own_rows(layers: Layers) -> None:
    """Where the command line names a file, the numbers of rows that a recipe has for its toy are left out."""
    data = layers.tree["data"]
    if layers.origins.get("data.path") != COMMAND_LINE or not isinstance(data, dict) or not data["path"]:
        return
    for name, default in (("size", 0), ("holdout", None)):
        if layers.origins.get(f"data.{name}", "").startswith("at."):
            data[name] = default


def _brought(layers: Layers) -> Iterator[tuple[str, str]]:
    for key in BROUGHT:
        value = within(layers.tree, key)
        if isinstance(value, str) and value:
            yield key, short(value)
    for leaf, value in leaves({key: within(layers.tree, key) for key in NAMED}):
        if value and layers.origins.get(leaf) == COMMAND_LINE:
            yield leaf.removesuffix("._target_"), short(value)


def _numbers(tree: Mapping[str, object]) -> Iterator[str]:
    """What a newcomer would want to know of the toy's numbers."""
    yield f"{within(tree, 'rollout.sampling.max_tokens')} tokens a response"
    yield f"{within(tree, 'data.max_prompt_tokens')} a prompt"
    rate = within(tree, "learner.optim.lr")
    yield f"lr {rate:g}" if isinstance(rate, float) else f"lr {rate}"
    stages = within(tree, "stages")
    for name, stage in stages.items() if isinstance(stages, Mapping) else ():
        if isinstance(stage, Mapping) and isinstance(stage.get("steps"), int):
            yield f"{stage['steps']} steps of {name}"
