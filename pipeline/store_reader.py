"""Store reader: an object read by ranges, of which none is lost in silence.

An answer that is cut off, or shorter than what was asked for, is asked for again, and an object
that another has replaced in the meantime ends the reading: the two would be mixed.
"""

import io
import socket
from typing import Any, cast

from upath import UPath

from pipeline.errors import BadInput
from pipeline.store_calls import answer


class Ranged(io.RawIOBase):
    """An object of a store; each read is one request. Raises FileNotFoundError when opened."""

    def __init__(self, where: UPath) -> None:
        super().__init__()
        self._where = where
        self._file = answer(where, lambda fs, path: fs.open(path, "rb", cache_type="none"))
        self._size = cast(int, self._file.seek(0, io.SEEK_END))
        self._at = 0

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        begin = {io.SEEK_SET: 0, io.SEEK_CUR: self._at, io.SEEK_END: self._size}[whence]
        self._at = max(0, begin + offset)
        return self._at

    def tell(self) -> int:
        return self._at

    def readinto(self, buffer: Any) -> int:
        """Fill the buffer, unless the object ends before."""
        wanted = min(len(buffer), max(0, self._size - self._at))
        if not wanted:
            return 0
        try:
            data = answer(self._where, lambda fs, path: self._range(wanted))  # noqa: ARG005
        except FileNotFoundError:
            raise self._lost("was removed while it was read: put it back") from None
        buffer[:wanted] = data
        self._at += wanted
        return wanted

    def close(self) -> None:
        if not self.closed:
            self._file.close()
        super().close()

    def _range(self, wanted: int) -> bytes:
        has_changed = False
        try:
            self._file.seek(self._at)
            data = cast(bytes, self._file.read(wanted))
        except OSError as error:
            has_changed = type(error).__name__ == "FileExpired"  # s3fs asks for what it opened
            if not has_changed:
                raise
        if has_changed:
            raise self._lost("changed while it was read: leave it as it is")
        if len(data) != wanted:
            raise ConnectionError(f"{len(data):,} of {wanted:,} bytes at {self._at:,}")
        return data

    def _lost(self, why: str) -> BadInput:
        return BadInput(f"{socket.gethostname()}: {self._where} {why}, and run it again")
