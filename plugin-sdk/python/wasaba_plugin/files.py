"""Reading the files that the operator granted by settings of kind `file`."""

from __future__ import annotations

import io
from datetime import datetime, timezone
from typing import Any, NamedTuple

from . import _wire
from ._errors import TooLarge, passed_on

_files = _wire.interface("files")


class Stat(NamedTuple):
    """What is known of an open file."""

    #: In bytes.
    size: int
    modified: datetime
    #: Which file it is: one that took its place, as after a rotation, has another id.
    id: int


def open(path: str) -> File:
    """Opens the file, whose path is exactly as in the setting."""
    with passed_on():
        return File(_files.File.open(path), path)


class File(io.RawIOBase):
    """An open file, which is a raw binary file: `buffered` gives one with lines. It stays the same one when its log is rotated."""

    def __init__(self, wire: Any, path: str) -> None:
        super().__init__()
        self._wire, self._offset = wire, 0
        self.path = path

    def __repr__(self) -> str:
        return f"<file {self.path}>"

    def stat(self) -> Stat:
        """Its size, when it was modified, and which file it is."""
        with passed_on():
            stat = self._wire.stat()
        return Stat(stat.size, datetime.fromtimestamp(stat.modified_ms / 1_000, timezone.utc), stat.id)

    def read_at(self, offset: int, max_bytes: int) -> bytes:
        """At most `max_bytes` bytes from `offset` on; none past the end. The agent returns at most 4 MiB at once, unless configured."""
        with passed_on():
            return bytes(self._wire.read_at(offset, min(max_bytes, 0xFFFF_FFFF)))

    def buffered(self) -> io.BufferedReader:
        """A buffered file on this one, which iterates over lines."""
        return io.BufferedReader(self, 65_536)

    # io.RawIOBase.

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer).cast("B")
        data = self.read_at(self._offset, len(view))
        view[: len(data)] = data
        self._offset += len(data)
        return len(data)

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        base = {io.SEEK_SET: 0, io.SEEK_CUR: self._offset}.get(whence)
        self._offset = max(0, (self.stat().size if base is None else base) + offset)
        return self._offset

    def tell(self) -> int:
        return self._offset

    def close(self) -> None:
        if not self.closed:
            super().close()
            self._wire.__exit__(None, None, None)


def read(path: str, max_bytes: int) -> bytes:
    """The whole file, if it has at most `max_bytes` bytes."""
    with open(path) as file:
        whole = bytearray()
        while True:
            part = file.read_at(len(whole), 0xFFFF_FFFF)
            if not part:
                return bytes(whole)
            whole += part
            if len(whole) > max_bytes:
                raise TooLarge(f"`{path}` is larger than {max_bytes} bytes")
