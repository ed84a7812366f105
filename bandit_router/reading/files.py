"""The bytes and the text of a file: compressed or from standard input, in whatever encoding its tool chose."""

from __future__ import annotations

import codecs
import io
import re
import sys
import zlib
from functools import cache
from importlib import import_module
from pathlib import Path

from bandit_router.errors import InvalidLog

STDIN = "-"
LARGE, RATIO = 1 << 30, 200
"""A file that expands to more than so many bytes and so many times its size is refused: no table is that empty."""
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def read_bytes(path: Path) -> bytes:
    """What a file holds, decompressed (gzip, zstd), or standard input for `-`, which is read once.

    Raises:
        InvalidLog: the compression is damaged, or the content is beyond any sense for the file's size.
        OSError: the file cannot be read.
    """
    raw = _standard_input() if str(path) == STDIN else path.read_bytes()
    if raw.startswith(_GZIP):
        return _gunzip(raw, path)
    return _unzstd(raw, path) if raw.startswith(_ZSTD) else raw


@cache
def _standard_input() -> bytes:
    return sys.stdin.buffer.read()


def refuse_bomb(path: Path, packed: int, expanded: int) -> None:
    """Raise InvalidLog when so few bytes claim to hold so many."""
    if expanded > LARGE and expanded > RATIO * packed:
        raise InvalidLog(f"{path}: {packed} bytes that expand to {expanded} are no log; write it again, in parts")


def _gunzip(raw: bytes, path: Path) -> bytes:
    parts, size, rest = [], 0, raw
    try:
        while rest.startswith(_GZIP):  # members may follow each other
            stream = zlib.decompressobj(wbits=31)
            while not stream.eof:
                part = stream.decompress(rest, 1 << 24)
                rest = stream.unconsumed_tail
                if not part and not rest and not stream.eof:
                    raise InvalidLog(f"{path}: the gzip file is cut short; copy it again")
                parts.append(part)
                size += len(part)
                refuse_bomb(path, len(raw), size)
            rest = stream.unused_data
    except zlib.error as error:
        raise InvalidLog(f"{path}: the gzip file is damaged: {error}") from None
    return b"".join(parts)


def _unzstd(raw: bytes, path: Path) -> bytes:
    """By Polars, which decompresses zstd and is installed anyway; it takes UTF-8 alone."""
    pl = import_module("polars")  # by name: policies read files too and go without Polars
    refuse_bomb(path, len(raw), _declared(raw))
    try:
        lines = pl.read_lines(io.BytesIO(raw)).to_series()
    except pl.exceptions.PolarsError as error:
        raise InvalidLog(f"{path}: expected UTF-8 in the zstd file, got {str(error).splitlines()[0]}") from None
    return "\n".join(map(str, lines)).encode()


def _declared(raw: bytes) -> int:
    """The content size that a zstd frame declares, 0 where it does not (RFC 8878, section 3.1.1.1)."""
    if len(raw) < 18:
        return 0
    flags = raw[4]
    single, width = flags >> 5 & 1, (0, 2, 4, 8)[flags >> 6]
    width = width or single
    start = 5 + (1 - single) + (0, 1, 2, 4)[flags & 3]
    size = int.from_bytes(raw[start : start + width], "little")
    return size + 256 if width == 2 else size


def read_text(path: Path) -> tuple[str, str]:
    """A file's text and its encoding: by its byte order mark, else UTF-8, else UTF-16 or Windows-1252 by its bytes.

    Bytes that break a file which is UTF-8 elsewhere come as surrogates, for the line that holds them to be refused.
    """
    return decode(read_bytes(path))


def decode(raw: bytes) -> tuple[str, str]:
    """Text and encoding of bytes, see `read_text`."""
    for mark, name in _MARKS:
        if raw.startswith(mark):
            return raw.decode(name, "surrogateescape" if name == "utf-8-sig" else "replace"), name
    if wide := _wide(raw):
        return raw.decode(wide, "replace"), wide
    try:
        return raw.decode(), "utf-8"
    except UnicodeDecodeError:
        text = raw.decode("utf-8", "surrogateescape")
    if re.search("[\x80-\ud7ff\ue000-\U0010ffff]", text):  # UTF-8 with a few bad bytes
        return text, "utf-8"
    try:
        return raw.decode("cp1252"), "Windows-1252"
    except UnicodeDecodeError:
        return raw.decode("latin-1"), "Latin-1"


def _wide(raw: bytes) -> str | None:
    """UTF-16 without a mark: every other byte of its beginning is 0."""
    head = raw[:200]
    if len(head) < 4:
        return None
    even, odd = head[::2].count(0) / len(head[::2]), head[1::2].count(0) / len(head[1::2])
    return "utf-16-le" if odd > 0.7 > 0.1 > even else "utf-16-be" if even > 0.7 > 0.1 > odd else None
