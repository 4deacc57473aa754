"""Whether compressed voxels are whole: nibabel and ITK stop before the checksum, and read what is damaged."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from pathlib import Path

from limner import check

GZIP_MAGIC = b"\x1f\x8b"
#: zlib's names for what begins as gzip does, and as zlib does.
GZIP, ZLIB = 31, 15
#: Bytes taken at a time: what they stand for fits into memory.
PIECE = 1 << 16


def check_whole(path: Path, *, start: int = 0, kind: int = GZIP) -> None:
    """Refuse a file whose compressed part is damaged or cut short; what follows that part does not matter.

    Args:
        path: of the file.
        start: where the compressed part begins.
        kind: GZIP, of one or several members, or ZLIB.

    Raises:
        InputError: with the reason.
    """
    with path.open("rb") as file:
        file.seek(start)
        try:
            whole = _reaches_the_end(file.read, kind)
        except zlib.error as error:
            raise check.unreadable(path, error) from error
    if not whole:
        raise check.unreadable(path, "its compressed part ends early")


def _reaches_the_end(read: Callable[[int], bytes], kind: int) -> bool:
    """Tell whether all members that a reader yields end as they should.

    Raises:
        zlib.error: for a wrong checksum, or what is not compressed.
    """
    member, rest = zlib.decompressobj(kind), b""
    while piece := rest or read(PIECE):
        rest = b""
        member.decompress(piece)
        if member.eof:
            rest = member.unused_data or read(PIECE)
            if kind != GZIP or not rest.startswith(GZIP_MAGIC):
                return True
            member = zlib.decompressobj(kind)
    return member.eof
