"""Removing a folder that a hostile program has filled: of any depth, with any modes, and no link followed."""

from __future__ import annotations

import contextlib
import itertools
import os
import secrets
import stat
from collections.abc import Iterator

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


def remove_tree(folder: str) -> None:
    """Remove it. Nobody else may be writing in it. Raises OSError for what cannot be removed.

    Inner folders are moved to the top before they are emptied: neither the stack, nor the number of open files, nor
    the length of a path grows with the depth.
    """
    top = os.open(folder, FOLDER)
    try:
        mark = secrets.token_hex(8)  # the program can have made no folder of that name
        waiting, names = [""], (f".{mark}-{number}" for number in itertools.count())
        while waiting:
            name = waiting.pop()
            inner = os.open(name, FOLDER, dir_fd=top) if name else os.dup(top)
            try:
                waiting += _emptied(inner, top, names)
            finally:
                os.close(inner)
            if name:
                os.rmdir(name, dir_fd=top)
    finally:
        os.close(top)
    os.rmdir(folder)


def _emptied(inner: int, top: int, names: Iterator[str]) -> list[str]:
    """Unlink the files of a folder and move its folders to the top: their new names."""
    moved = []
    os.fchmod(inner, stat.S_IRWXU)
    for entry in os.listdir(inner):
        if not stat.S_ISDIR(os.stat(entry, dir_fd=inner, follow_symlinks=False).st_mode):
            os.unlink(entry, dir_fd=inner)
            continue
        with contextlib.suppress(OSError):  # moving a folder writes its ".."
            os.chmod(entry, stat.S_IRWXU, dir_fd=inner)
        name = next(names)
        os.rename(entry, name, src_dir_fd=inner, dst_dir_fd=top)
        moved.append(name)
    return moved
