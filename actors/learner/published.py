"""A model's weights under the names and in the shapes of its checkpoint: what engines are sent and what is exported.

In memory transformers fuses and renames what checkpoints keep apart (experts of a layer are one tensor, GPT-NeoX has
layers that its files call otherwise). `save_pretrained` turns that round; engines read checkpoints, so they must be
sent the same. Which tensors a conversion needs together, and what comes out, is found once from shapes alone.

    in memory        ──group──► what one conversion needs  ──convert──► checkpoint
    experts.gate_up_proj [8, 96, 64]                         experts.0.gate_proj.weight [48, 64], ... 16 tensors
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers import PreTrainedModel
from transformers.conversion_mapping import get_model_conversion_mapping
from transformers.core_model_loading import (
    PrefixChange,
    WeightConverter,
    WeightRenaming,
    dot_natural_key,
    rename_source_key,
)

from raylign.actors.learner import lora
from raylign.weights import dtype_name


@dataclass(slots=True)
class Group:
    """Tensors that one conversion needs together, and what it makes of them.

    Example: ``Group(sources=[("norm.weight", parameter)], shapes=[("norm.weight", "float32", (64,))], convert=...)``
    """

    sources: list[tuple[str, Tensor]]  # names in memory; a partitioned parameter has no data of its own
    shapes: list[tuple[str, str, tuple[int, ...]]]  # name, dtype and shape in the checkpoint
    convert: Callable[[Sequence[Tensor]], Mapping[str, Tensor]]  # whole tensors in the order of `sources`

    @property
    def parameters(self) -> list[torch.nn.Parameter]:
        """The sources that can be partitioned over ranks; buffers are whole everywhere."""
        return [tensor for _, tensor in self.sources if isinstance(tensor, torch.nn.Parameter)]

    def tensors(self) -> Iterator[Tensor]:
        """The checkpoint's tensors in the order of `shapes`; every source must be whole."""
        with torch.no_grad():
            outputs = self.convert([tensor.data for _, tensor in self.sources])
        for name, _, shape in self.shapes:
            if outputs[name].shape != shape:
                raise ValueError(f"weight {name} came out as {tuple(outputs[name].shape)}, {shape} was announced")
            yield outputs[name]


@dataclass(frozen=True, slots=True)
class _Member:
    """A tensor in memory that a conversion takes, with its adapter merged into it."""

    name: str
    pattern: str
    tensor: Tensor
    adapter: lora.Adapter | None

    @property
    def sources(self) -> list[tuple[str, Tensor]]:
        if self.adapter is None:
            return [(self.name, self.tensor)]
        a, b = lora.weight_names(self.name)
        return [(self.name, self.tensor), (a, self.adapter.a), (b, self.adapter.b)]

    def taken(self, tensors: Iterator[Tensor]) -> Tensor:
        """The tensor, from whole ones in the order of `sources`."""
        weight = next(tensors)
        return weight if self.adapter is None else lora.merged(weight, next(tensors), next(tensors), self.adapter.scale)


def published_groups(hf: PreTrainedModel) -> list[Group]:
    """All weights of a model in groups, in the order of their names; tied ones once. Data is not looked at.

    Raises ValueError when two weights would have one name in a checkpoint.
    """
    converters, renamings = _reverse_transforms(hf)
    by_pattern = {pattern: converter for converter in converters for pattern in converter.source_patterns}
    members: dict[str, list[_Member]] = {}
    uses: dict[str, WeightConverter] = {}
    adapters = lora.adapters(hf)
    for name, tensor in sorted(stored_tensors(hf).items(), key=lambda item: dot_natural_key(item[0])):
        target, pattern = rename_source_key(name, renamings, converters, reverse=True)
        members.setdefault(target, []).append(_Member(name, pattern or name, tensor, adapters.get(name)))
        if pattern is not None:
            uses.setdefault(target, by_pattern[pattern])
    return [_group(hf, target, part, uses.get(target)) for target, part in members.items()]


def whole_tensor(name: str, tensor: Tensor) -> Group:
    """A tensor that a checkpoint has as it is in memory."""
    shape = (name, dtype_name(tensor.dtype), _shape(tensor))
    return Group(sources=[(name, tensor)], shapes=[shape], convert=lambda tensors: {name: tensors[0]})


def stored_tensors(hf: PreTrainedModel) -> dict[str, Tensor]:
    """Parameters and persistent buffers by their names in memory; tied ones once, under the name that is saved."""
    tensors = lora.without_adapters(hf.state_dict(keep_vars=True))
    for name in hf._keys_to_ignore_on_save or ():
        tensors.pop(name, None)
    aliases: dict[int, list[str]] = {}
    for name, tensor in tensors.items():
        aliases.setdefault(id(tensor), []).append(name)
    tied = _tied_names(hf)
    for names in aliases.values():
        saved = [name for name in names if name not in tied] or names[-1:]
        for name in set(names) - {saved[0]}:
            del tensors[name]
    return tensors


def _group(
    hf: PreTrainedModel,
    target: str,
    members: list[_Member],
    converter: WeightConverter | None,
) -> Group:
    sources = [source for member in members for source in member.sources]

    def convert(tensors: Sequence[Tensor]) -> Mapping[str, Tensor]:
        given = iter(tensors)
        if converter is None:
            return {target: members[0].taken(given)}
        operation: Any = copy.deepcopy(converter)  # it collects what it is given
        for member in members:
            operation.add_tensor(target, member.name, member.pattern, member.taken(given))
        outputs = operation.convert(target, model=hf, config=hf.config)
        return {name: value[0] if isinstance(value, list) else value for name, value in outputs.items()}

    if converter is None and len(members) > 1:
        names = ", ".join(member.name for member in members)
        raise ValueError(f"weights {names} have one name in a checkpoint: {target}")
    empty = [torch.empty(_shape(tensor), dtype=tensor.dtype, device="meta") for _, tensor in sources]
    shapes = [(name, dtype_name(t.dtype), tuple(t.shape)) for name, t in convert(empty).items()]
    return Group(sources=sources, shapes=shapes, convert=convert)


def _reverse_transforms(hf: PreTrainedModel) -> tuple[list[WeightConverter], list[WeightRenaming]]:
    """What `save_pretrained` applies: the conversions that were used at load, or the family's own, turned round."""
    used: list[Any] | None = getattr(hf, "_weight_conversions", None)
    if used is None:  # built from a config: whether the checkpoint had a prefix is not known, so none is added
        family = get_model_conversion_mapping(hf, add_legacy=False)
        used = [transform for transform in family if not isinstance(transform, PrefixChange)]
    reverse = [transform.reverse_transform() for transform in reversed(used)]
    converters = [transform for transform in reverse if isinstance(transform, WeightConverter)]
    return converters, [transform for transform in reverse if isinstance(transform, WeightRenaming)]


def _tied_names(hf: PreTrainedModel) -> set[str]:
    """Names that transformers ties to another one, and so leaves out of checkpoints."""
    return set(getattr(hf, "all_tied_weights_keys", None) or {})


def _shape(tensor: Tensor) -> tuple[int, ...]:
    return tuple(getattr(tensor, "ds_shape", tensor.shape))
