"""Removing a folder that a hostile program has filled: of any depth, with any modes, and no link followed."""

from __future__ import annotations

import itertools
import os
import secrets
import stat
from collections.abc import Iterator

FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
DEPTH = 32  # folders within folders that are emptied where they are


def remove_tree(folder: str) -> None:
    """Remove it. Nobody else may be writing in it. Raises OSError for what cannot be removed.

    Folders deeper than `DEPTH` are moved to the top and emptied in the next round: neither the stack, nor the number
    of open files, nor the length of a path grows with the depth. A move costs a disk more than all else here.
    """
    top = os.open(folder, FOLDER)
    try:
        mark = secrets.token_hex(8)  # the program can have made no folder of that name
        names = (f".{mark}-{number}" for number in itertools.count())
        _open_up(os.fstat(top).st_mode, folder, None)
        while os.listdir(top):
            _empty(top, top, names, DEPTH)
    finally:
        os.close(top)
    os.rmdir(folder)


def _empty(folder: int, top: int, names: Iterator[str], depth: int) -> None:
    for entry in os.listdir(folder):
        mode = os.stat(entry, dir_fd=folder, follow_symlinks=False).st_mode
        if not stat.S_ISDIR(mode):
            os.unlink(entry, dir_fd=folder)
            continue
        _open_up(mode, entry, folder)
        if depth == 0:
            os.rename(entry, next(names), src_dir_fd=folder, dst_dir_fd=top)
            continue
        inner = os.open(entry, FOLDER, dir_fd=folder)
        try:
            _empty(inner, top, names, depth - 1)
        finally:
            os.close(inner)
        os.rmdir(entry, dir_fd=folder)


def _open_up(mode: int, name: str, folder: int | None) -> None:
    """Let the owner list, empty and move a folder that was closed."""
    if mode & stat.S_IRWXU != stat.S_IRWXU:
        os.chmod(name, stat.S_IRWXU, dir_fd=folder)
