"""How full a scratch folder is that no file system of its own limits."""

from __future__ import annotations

import os

from raylign.actors.sandbox.removal import DEPTH, FOLDER

ENTRIES = 1024  # files and folders: some disks need milliseconds to remove one
BLOCK = 512  # bytes: the unit of st_blocks
DEEPEST = 4 * DEPTH


def overfull(folder: str, size: int) -> bool:
    """Whether it holds more than `size` bytes on disk, more than `ENTRIES` entries, folders of absurd depth, or what
    cannot be looked into.

    It may be written to meanwhile; no link is followed. What the program has deleted and still holds open does not
    count.
    """
    try:
        top = os.open(folder, FOLDER)
        try:
            return _left(top, (size, ENTRIES), DEEPEST) is None
        finally:
            os.close(top)
    except OSError:
        return True


def _left(folder: int, room: tuple[int, int], depth: int) -> tuple[int, int] | None:
    """What is left of the room, in bytes and entries, after a folder; None when it is not enough."""
    with os.scandir(folder) as entries:
        for entry in entries:
            try:
                status = entry.stat(follow_symlinks=False)
                room = (room[0] - status.st_blocks * BLOCK, room[1] - 1)
                if min(room) < 0:
                    return None
                if not entry.is_dir(follow_symlinks=False):
                    continue
                inner = os.open(entry.name, FOLDER, dir_fd=folder)
            except (FileNotFoundError, NotADirectoryError):  # gone meanwhile, or another by now
                continue
            try:
                below = _left(inner, room, depth - 1) if depth else None
            finally:
                os.close(inner)
            if below is None:
                return None
            room = below
    return room
