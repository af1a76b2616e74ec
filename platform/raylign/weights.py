"""One flat buffer for all weights of a model: the layout, filling it, and reading it back without a copy.

A model travels from the learner to the engines as one uint8 array in Ray's object store. Both ends agree on the layout
``(name, dtype, shape, byte offset)``; the receiving end makes tensor views into the shared memory. Pure: no Ray here.
"""

from __future__ import annotations

import math
import warnings
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
import xxhash
from numpy.typing import NDArray

if TYPE_CHECKING:
    import torch

Layout: TypeAlias = tuple[tuple[str, str, tuple[int, ...], int], ...]  # name, dtype, shape, byte offset
Bytes: TypeAlias = NDArray[np.uint8]
Shape: TypeAlias = tuple[str, str, tuple[int, ...]]  # name, dtype, shape

ALIGNMENT = 64  # bytes; a cache line, and a multiple of every item size, so that any slice can be viewed as its dtype
ITEM_SIZES = {"float32": 4, "bfloat16": 2, "float16": 2, "float64": 8}


def layout_of(shapes: Iterable[Shape]) -> Layout:
    """Place named tensors (name, dtype, shape) one after the other, each at an aligned offset.

    Raises ValueError on a dtype that is not listed in ITEM_SIZES, or on a name that comes twice.

    Example: ``layout_of([("a", "float32", (2, 3)), ("b", "float32", (4,))])`` puts a at 0 and b at 64.
    """
    entries: list[tuple[str, str, tuple[int, ...], int]] = []
    offset, names = 0, set()
    for name, dtype, shape in shapes:
        if dtype not in ITEM_SIZES:
            raise ValueError(f"weight {name} has dtype {dtype}; known: {', '.join(ITEM_SIZES)}")
        if name in names:
            raise ValueError(f"weight {name} is listed twice")
        names.add(name)
        entries.append((name, dtype, tuple(shape), offset))
        offset += -(-math.prod(shape) * ITEM_SIZES[dtype] // ALIGNMENT) * ALIGNMENT
    return tuple(entries)


def total_bytes(layout: Layout) -> int:
    """Length of the buffer that holds this layout."""
    if not layout:
        return 0
    _, dtype, shape, offset = layout[-1]
    return offset + -(-math.prod(shape) * ITEM_SIZES[dtype] // ALIGNMENT) * ALIGNMENT


def views(buffer: Bytes, layout: Layout) -> Iterator[tuple[str, torch.Tensor]]:
    """Each weight as a tensor that shares the buffer's memory. A read-only buffer gives tensors not to be written.

    Raises ValueError when the buffer is not a uint8 array of the layout's length.
    """
    import torch

    if buffer.dtype != np.uint8 or buffer.shape != (total_bytes(layout),):
        raise ValueError(
            f"expected {total_bytes(layout)} bytes of uint8 for this layout, got {buffer.shape} of {buffer.dtype}"
        )
    with warnings.catch_warnings():
        # torch warns that an array from the object store is not writable; nobody writes to these views
        warnings.simplefilter("ignore", UserWarning)
        flat = torch.from_numpy(buffer)
    for name, dtype, shape, offset in layout:
        length = math.prod(shape) * ITEM_SIZES[dtype]
        yield name, flat[offset : offset + length].view(getattr(torch, dtype)).view(shape)


def digests_of(buffer: Bytes, layout: Layout) -> dict[str, str]:
    """XXH3 (128 bit) of each weight's bytes, by name: against accidents, at the speed of memory; no attacker is met."""
    return {
        name: xxhash.xxh3_128_hexdigest(buffer[at : at + math.prod(shape) * ITEM_SIZES[dtype]].data)
        for name, dtype, shape, at in layout
    }


def fill(buffer: Bytes, layout: Layout, tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Copy tensors into the buffer. Raises ValueError when names or shapes differ from the layout's."""
    import torch

    pairs = zip(views(buffer, layout), tensors, strict=True)
    with torch.no_grad():
        for (name, target), (given, tensor) in pairs:
            if given != name or tensor.shape != target.shape:
                raise ValueError(f"expected weight {name} {tuple(target.shape)}, got {given} {tuple(tensor.shape)}")
            target.copy_(tensor)


class FlatWeights:
    """A flat buffer that is laid out once; later versions of the same tensors are copied into it."""

    def __init__(self) -> None:
        self.layout: Layout = ()
        self.bytes: Bytes = np.zeros(0, np.uint8)

    def fill(self, shapes: Iterable[Shape], tensors: Iterable[tuple[str, torch.Tensor]]) -> None:
        """Copy all tensors. shapes: name, dtype and shape of each, in the same order."""
        if not self.layout:
            self.layout = layout_of(shapes)
            self.bytes = np.zeros(total_bytes(self.layout), np.uint8)
        fill(self.bytes, self.layout, tensors)


def dtype_name(dtype: Any) -> str:
    """``torch.bfloat16`` -> ``"bfloat16"``."""
    return str(dtype).removeprefix("torch.")
