"""The text of a table as UTF-8, whatever it was written in."""

from __future__ import annotations

import codecs
import io
from typing import TYPE_CHECKING, Final

from churn_serving.errors import DataError

if TYPE_CHECKING:
    from typing_extensions import Buffer

    from churn_serving.learning.tables.content import Content

__all__ = ["SAMPLE", "Text"]

SAMPLE: Final = 1 << 18
"""So many bytes are looked at to find out how a table is written."""

_CHUNK: Final = 1 << 20
_WINDOWS: Final = "cp1252"
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8"),
    (codecs.BOM_UTF32_LE, "utf-32-le"),  # it begins like the one of UTF-16
    (codecs.BOM_UTF32_BE, "utf-32-be"),
    (codecs.BOM_UTF16_LE, "utf-16-le"),
    (codecs.BOM_UTF16_BE, "utf-16-be"),
)


class Text(io.RawIOBase):
    """The text of a table, read from front to end as UTF-8.

    What begins as plain ASCII and is no UTF-8 later on is Windows-1252, of which Latin-1 letters
    are a part.

    Attributes:
        encoding: What the text turned out to be written in.
        damaged: Whether characters of UTF-8 text had to be replaced.
        quotes: How many double quotes were read.
        line_feeds: How many line feeds were read.
        returns: How many carriage returns were read.
        escapes: How many backslashes before a double quote were read.
    """

    def __init__(self, content: Content) -> None:
        super().__init__()
        self.name = content.name
        self.encoding = "utf-8"
        self.damaged = False
        self.quotes = self.line_feeds = self.returns = self.escapes = 0
        self._content = content
        self._ascii = True
        self._ahead = b""
        start = content.read(SAMPLE)
        for mark, encoding in _MARKS:
            if start.startswith(mark):
                start, self.encoding = start[len(mark) :], encoding
                break
        else:
            self.encoding = _unmarked(start)
        self._decoder = codecs.getincrementaldecoder(self.encoding)("strict")
        self._ahead = self._decoded(start, last=not start)

    def readable(self) -> bool:
        """Say that it can be read."""
        return True

    def readinto(self, buffer: Buffer) -> int:
        """Fill a buffer: Python's own reader of lines asks so."""
        view = memoryview(buffer)
        data = self.read(len(view))
        view[: len(data)] = data
        return len(data)

    def peek(self) -> bytes:
        """Return the next bytes without taking them; nothing at the end."""
        if not self._ahead:
            data = self.read(SAMPLE)
            self._ahead = data + self._ahead
        return self._ahead

    def may_hide_rows(self, rows: int) -> bool:
        """Say whether quotes may hold some of the rows: there are more lines, or an odd quote."""
        lines = max(self.line_feeds, self.returns)
        return self.quotes > 0 and (self.quotes % 2 == 1 or lines > rows + 1)

    def skip(self, size: int) -> None:
        """Leave out the next bytes, all of which were looked at."""
        self._ahead = self._ahead[size:]

    def read(self, size: int = -1) -> bytes:
        """Return the next bytes of the text, at most ``size``; nothing at its end.

        Raises:
            DataError: It is no text, or the file cannot be read.
        """
        pieces = [self._ahead]
        length = len(self._ahead)
        while size < 0 or length < size:
            data = self._content.read(_CHUNK)
            piece = self._decoded(data, last=not data)
            pieces.append(piece)
            length += len(piece)
            if not data:
                break
        text = b"".join(pieces)
        taken = text if size < 0 else text[:size]
        self._ahead = text[len(taken) :]
        return taken

    def _decoded(self, data: bytes, *, last: bool) -> bytes:
        if self.encoding != "utf-8":
            text = self._recoded(data, last=last)
        elif self._ascii and data.isascii():
            text = data
        else:
            text = self._checked(data, last=last)
        if b"\0" in text:
            raise DataError(f"{self.name} is no text: it holds a NUL character.")
        quotes = text.count(b'"')
        if quotes:
            self.quotes += quotes
            self.escapes += text.count(b'\\"')
        self.line_feeds += text.count(b"\n")
        self.returns += text.count(b"\r")
        return text

    def _recoded(self, data: bytes, *, last: bool) -> bytes:
        try:
            return self._decoder.decode(data, last).encode("utf-8")
        except UnicodeError as error:
            raise DataError(
                f"{self.name} is no {self.encoding.upper()} text: it is damaged or cut off."
            ) from error

    def _checked(self, data: bytes, *, last: bool) -> bytes:
        """Return UTF-8 as it is, or find out that it is none."""
        before = self._decoder.getstate()[0]  # the beginning of a character
        whole = before + data
        try:
            text = self._decoder.decode(data, last)
        except UnicodeDecodeError as error:
            if self._ascii and whole[: error.start].isascii():
                self.encoding = _WINDOWS
            else:
                self.damaged = True
            encoding = self.encoding
            self._decoder = codecs.getincrementaldecoder(encoding)("backslashreplace")
            text = self._decoder.decode(whole, last)
        if not text.isascii():
            self._ascii = False
        return text.encode("utf-8")


def _unmarked(start: bytes) -> str:
    """Tell UTF-16 without a mark by its zeros: every other byte of an ASCII letter."""
    even, odd = start[0:64:2], start[1:64:2]
    if even and odd and any(even) and not any(odd):
        return "utf-16-le"
    if even and odd and any(odd) and not any(even):
        return "utf-16-be"
    return "utf-8"
