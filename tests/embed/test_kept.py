"""Vectors are computed once for a text, kept within bounds, and shared by processes that live and die side by side."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raylign.actors.embed.kept import KeptEmbedder
from raylign.actors.embed.vectors import HEAD, KEY, VectorStore
from raylign.errors import DataError, RewardError

RECORD = HEAD.size + KEY + 4 * 3


class Lengths(KeptEmbedder):
    """Three numbers of a text; remembers what it was asked to compute."""

    @dataclass
    class Config(KeptEmbedder.Config):
        name: str = "lengths"

    def __init__(self, config: Any) -> None:
        super().__init__(config)
        self.texts: list[str] = []

    @property
    def identity(self) -> str:
        return str(self.config.name)

    def compute(self, texts: Sequence[str]) -> np.ndarray:
        self.texts += texts
        if "nothing" in texts:
            return np.zeros((len(texts), 3), np.float32)
        return np.array([[len(text) + 1, text.count("a"), 1] for text in texts], np.float32)


def embedder(folder: Path, **settings: Any) -> Lengths:
    return Lengths(Lengths.Config(**{"cache_dir": str(folder), **settings}))


def test_a_text_is_computed_once(tmp_path: Path) -> None:
    first = embedder(tmp_path)
    vectors = first.embed(["aa", "b", "aa"])
    np.testing.assert_allclose(vectors[1], np.array([2, 0, 1]) / np.sqrt(5), rtol=1e-6)
    np.testing.assert_array_equal(vectors[0], vectors[2])
    assert first.texts == ["aa", "b"]
    np.testing.assert_array_equal(first.embed(["b", "c", "aa"])[[0, 2]], vectors[[1, 0]])
    assert first.texts == ["aa", "b", "c"]
    assert first.counts.metrics("e") == {"e/asked": 6.0, "e/hits": 3.0, "e/computed": 3.0, "e/cut": 0.0}
    again = embedder(tmp_path)
    np.testing.assert_array_equal(again.embed(["aa", "b", "aa"]), vectors)
    assert again.texts == [] and again.counts.hits == 3
    other = embedder(tmp_path, name="other")
    other.embed(["aa"])
    assert other.texts == ["aa"], "other settings are other vectors"
    none = embedder(tmp_path, cache_mb=0)
    none.embed(["aa"]), none.embed(["aa"])
    assert none.texts == ["aa", "aa"]
    assert first.embed([]).shape[0] == 0


@pytest.mark.parametrize("text", ["nothing"])
def test_a_vector_without_a_direction_is_refused_and_not_kept(text: str, tmp_path: Path) -> None:
    first = embedder(tmp_path)
    for _ in range(2):
        with pytest.raises(RewardError, match="lengths gave 'nothing' a vector of length 0"):
            first.embed([text])
    assert first.texts == [text, text]


def test_processes_share_what_any_of_them_computed(tmp_path: Path) -> None:
    words = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom raylign.actors.embed.vectors import VectorStore\n"
        "store = VectorStore(Path(sys.argv[1]), 'x', 1 << 20)\nname = sys.argv[2]\n"
        "for n in range(200): store.store([f'{name}{n}'], np.full((1, 3), n, np.float32))\n"
    )
    here = VectorStore(tmp_path, "x", 1 << 20)
    assert here.find(["a7", "b199"]) == [None, None]
    writers = [subprocess.Popen([sys.executable, "-c", words, str(tmp_path), name]) for name in "ab"]
    assert [writer.wait() for writer in writers] == [0, 0]
    for name in "ab":
        for number, vector in enumerate(here.find([f"{name}{n}" for n in range(200)])):
            assert vector is not None and vector.tolist() == [number] * 3
    assert here.find(["a200"]) == [None]


def test_a_killed_writer_leaves_its_whole_records(tmp_path: Path) -> None:
    store = VectorStore(tmp_path, "x", 1 << 20)
    store.store(["a", "b"], np.ones((2, 3), np.float32))
    (path,) = store.folder.glob("*.vectors")
    whole = path.read_bytes()
    assert len(whole) == 2 * RECORD
    for cut in (1, RECORD - 1, RECORD, RECORD + 1):
        path.write_bytes(whole[: len(whole) - cut])
        found = VectorStore(tmp_path, "x", 1 << 20).find(["a", "b"])
        assert [vector is not None for vector in found] == [len(whole) - cut >= RECORD, False]
    reader = VectorStore(tmp_path, "x", 1 << 20)
    path.write_bytes(whole[: RECORD + 5])
    assert reader.find(["b"]) == [None]
    path.write_bytes(whole)  # the writer was alive after all
    assert reader.find(["b"])[0] is not None
    path.write_bytes(whole[:RECORD] + whole[RECORD:-1] + b"!")
    assert VectorStore(tmp_path, "x", 1 << 20).find(["a", "b"])[1] is None, "a damaged vector is no vector"


def test_memory_and_disk_are_bounded_and_the_oldest_go(tmp_path: Path) -> None:
    limit = 40 * RECORD
    store = VectorStore(tmp_path, "x", limit)
    for number in range(200):
        store.store([str(number)], np.full((1, 3), number, np.float32))
        total = sum(path.stat().st_size for path in store.folder.glob("*.vectors"))
        assert total <= limit
    assert sum(vector.nbytes for vector in store._known.values()) <= limit
    fresh = VectorStore(tmp_path, "x", limit)
    known = [vector is not None for vector in fresh.find([str(number) for number in range(200)])]
    assert not any(known[:100]) and all(known[-25:])


def test_threads_and_forks_do_not_write_into_one_another(tmp_path: Path) -> None:
    first = embedder(tmp_path)
    first.embed(["parent"])
    child = os.fork()
    if not child:
        first.embed(["child"])
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert len([*tmp_path.rglob("*.vectors")]) == 2, "a fork has a file of its own"
    threads = [threading.Thread(target=first.embed, args=([f"t{n % 5}", "parent"],)) for n in range(20)]
    [thread.start() for thread in threads], [thread.join() for thread in threads]
    assert sorted(first.texts) == ["parent", "t0", "t1", "t2", "t3", "t4"]
    again = embedder(tmp_path)
    again.embed(["parent", "child", "t0", "t4"])
    assert again.texts == []


def test_a_folder_that_cannot_be_used_is_named(tmp_path: Path) -> None:
    (tmp_path / "embeddings").write_text("")
    with pytest.raises(DataError, match=r"vectors cannot be kept in .*embeddings.*fix: name another cache_dir"):
        embedder(tmp_path).embed(["a"])
