"""What the safetensors of a model's folder hold, by their headers alone: names, shapes, kinds of numbers."""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

INDEX = "model.safetensors.index.json"
SINGLE = "model.safetensors"
ADAPTER = "adapter_model.safetensors"
HEADER = 100 * 2**20  # bytes; the format's own limit
LFS = b"version https://git-lfs"
WIDTHS = {"F64": 8, "I64": 8, "U64": 8, "F32": 4, "I32": 4, "U32": 4, "F16": 2, "BF16": 2, "I16": 2, "U16": 2}
WIDTHS |= {"I8": 1, "U8": 1, "BOOL": 1, "F8_E4M3": 1, "F8_E5M2": 1}  # bytes of one number


class Tensor(NamedTuple):
    """One stored tensor.

    Example: ``Tensor(shape=(151936, 1024), dtype="BF16")``
    """

    shape: tuple[int, ...]
    dtype: str

    @property
    def size(self) -> int:
        """How many numbers it holds."""
        return math.prod(self.shape)

    @property
    def bytes(self) -> int:
        """Bytes on the disk; of a kind of number that is not known here, one each."""
        return self.size * WIDTHS.get(self.dtype, 1)


def holds_weights(folder: Path) -> bool:
    """Whether there is anything that loading would read, or an index that promises it."""
    return (folder / INDEX).exists() or any(folder.glob("*.safetensors"))


def stored_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor that loading would read. Raises ValueError on an absent, damaged or cut-off file, on shards without
    an index, and on a tensor that the index promises and no file holds.

    Empty where the folder has no weights, as that of a Hub id of which only the small files are here.
    """
    if not (folder / INDEX).exists():
        return _header(folder / SINGLE) if (folder / SINGLE).exists() else _unindexed(folder)
    promised = index_of(folder)
    names = sorted(set(promised.values()))
    here = [name for name in names if (folder / name).exists()]
    if not here and "snapshots" in folder.parts:
        return {}
    absent = [name for name in names if name not in here]
    if absent:
        raise ValueError(f"lacks {len(absent)} of the {len(names)} files that its {INDEX} names, e.g. {absent[0]}")
    held = {name: _header(folder / name) for name in here}
    lost = [tensor for tensor, name in promised.items() if tensor not in held[name]]
    if lost:
        raise ValueError(f"its {INDEX} promises {lost[0]} in {promised[lost[0]]}, which does not hold it")
    return {tensor: held[name][tensor] for tensor, name in promised.items()}


def index_of(folder: Path) -> dict[str, str]:
    """File of each tensor, as the index says. Raises ValueError."""
    try:
        weight_map = json.loads((folder / INDEX).read_text())["weight_map"]
        return {str(name): str(file) for name, file in weight_map.items()}
    except (OSError, ValueError, KeyError, AttributeError, TypeError) as cause:
        raise ValueError(f"its {INDEX} cannot be read ({type(cause).__name__}: {cause})") from None


def indexed_bytes(folder: Path) -> int:
    """Bytes of all weights, as the index says; 0 when it does not."""
    try:
        total = (json.loads((folder / INDEX).read_text()).get("metadata") or {}).get("total_size", 0)
    except (OSError, ValueError, AttributeError):
        return 0
    return int(total) if isinstance(total, (int, float)) else 0


def _unindexed(folder: Path) -> dict[str, Tensor]:
    """Of a folder without model.safetensors and without an index: nothing, or an adapter."""
    files = sorted(folder.glob("*.safetensors"))
    if (folder / ADAPTER) in files:
        return _header(folder / ADAPTER)
    if files:
        raise ValueError(f"holds {files[0].name}, but neither {SINGLE} nor an {INDEX}, by which weights are found")
    return {}


def _header(file: Path) -> dict[str, Tensor]:
    """Tensors of one file. Raises ValueError when they are not all there, whole and one after the other."""
    try:
        size = file.stat().st_size
        with file.open("rb") as stream:
            first = stream.read(len(LFS))
            if first == LFS:
                raise ValueError("a Git LFS pointer in place of the file: run `git lfs pull`")
            stream.seek(0)
            (length,) = struct.unpack("<Q", stream.read(8))
            if length > min(HEADER, size):
                raise ValueError("its header is longer than the file")
            entries: Mapping[str, Any] = json.loads(stream.read(length))
        tensors = {name: entry for name, entry in entries.items() if name != "__metadata__"}
        end = 8 + length + max((entry["data_offsets"][1] for entry in tensors.values()), default=0)
        held = {name: Tensor(tuple(map(int, each["shape"])), str(each["dtype"])) for name, each in tensors.items()}
        if size == end:
            _check_places(held, tensors)
    except (OSError, struct.error, ValueError, KeyError, TypeError, AttributeError) as cause:
        raise ValueError(f"{file.name} is damaged ({cause or type(cause).__name__})") from None
    if size != end:
        raise ValueError(f"{file.name} is {'cut off' if size < end else 'damaged'}: {size} bytes of {end}")
    return held


def _check_places(held: Mapping[str, Tensor], entries: Mapping[str, Any]) -> None:
    """Raises ValueError for a tensor whose bytes are not as many as its shape takes, or overlap another's."""
    at = 0
    for name, entry in sorted(entries.items(), key=lambda item: item[1]["data_offsets"]):
        begin, end = entry["data_offsets"]
        if begin != at:
            raise ValueError(f"the bytes of {name} begin at {begin}, not at {at} where those before it end")
        if held[name].dtype in WIDTHS and end - begin != held[name].bytes:
            raise ValueError(f"{name} of shape {list(held[name].shape)} has {end - begin} bytes of {held[name].bytes}")
        at = end
