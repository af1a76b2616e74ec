from __future__ import annotations

import numpy as np
import pytest
import torch

from raylign.weights import ALIGNMENT, dtype_name, fill, layout_of, total_bytes, views

SHAPES = [("a", "float32", (2, 3)), ("b.weight", "bfloat16", (5,)), ("scalar", "float32", ()), ("c", "float16", (1, 7))]


def tensors() -> list[tuple[str, torch.Tensor]]:
    return [(name, torch.randn(shape).to(getattr(torch, dtype))) for name, dtype, shape in SHAPES]


def test_offsets_are_aligned_and_do_not_overlap() -> None:
    layout = layout_of(SHAPES)
    offsets = [offset for *_, offset in layout]
    assert offsets == [0, 64, 128, 192] and total_bytes(layout) == 256
    assert all(offset % ALIGNMENT == 0 for offset in offsets)


def test_round_trip_is_exact() -> None:
    layout, given = layout_of(SHAPES), tensors()
    buffer = np.zeros(total_bytes(layout), np.uint8)
    fill(buffer, layout, given)
    for (name, tensor), (wanted, source) in zip(views(buffer, layout), given, strict=True):
        assert name == wanted and tensor.dtype == source.dtype and torch.equal(tensor, source)


def test_views_share_memory_and_accept_read_only_buffers() -> None:
    layout = layout_of([("a", "float32", (4,))])
    buffer = np.zeros(total_bytes(layout), np.uint8)
    buffer[:16] = np.arange(4, dtype=np.float32).view(np.uint8)
    buffer.flags.writeable = False
    (_, tensor), *_ = views(buffer, layout)
    assert tensor.tolist() == [0, 1, 2, 3]
    assert tensor.data_ptr() == buffer.ctypes.data


@pytest.mark.parametrize(
    ("shapes", "words"),
    [([("a", "int8", (2,))], "dtype int8"), ([("a", "float32", (2,)), ("a", "float32", (2,))], "listed twice")],
)
def test_bad_layouts_are_named(shapes: list, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        layout_of(shapes)


def test_wrong_buffers_and_tensors_are_refused() -> None:
    layout = layout_of(SHAPES)
    with pytest.raises(ValueError, match="expected 256 bytes"):
        list(views(np.zeros(100, np.uint8), layout))
    given = tensors()
    given[1] = ("b.weight", torch.zeros(6, dtype=torch.bfloat16))
    with pytest.raises(ValueError, match=r"expected weight b.weight \(5,\), got b.weight \(6,\)"):
        fill(np.zeros(256, np.uint8), layout, given)
    assert total_bytes(()) == 0 and dtype_name(torch.bfloat16) == "bfloat16"
