"""What a Parquet file declares to hold, read from its footer alone, before anything is decompressed."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from mmap import mmap
from typing import Any

_MAGIC = b"PAR1"


def declared_size(raw: bytes | memoryview | mmap, columns: Sequence[str] | None = None) -> int:
    """Bytes that these columns expand to, at least 8 a value: encodings that repeat a value do not count as small.

    Args:
        raw: the whole file. columns: names at the top level; default all.

    Raises:
        ValueError: no Parquet footer.

    Source: Apache Parquet's `parquet.thrift` and Thrift's compact protocol.
    """
    if len(raw) < 12 or bytes(raw[-4:]) != _MAGIC:
        raise ValueError("no Parquet footer")
    length = int.from_bytes(raw[-8:-4], "little")
    footer = _Compact(bytes(raw[max(0, len(raw) - 8 - length) : -8])).struct()
    total = 0
    for group in footer.get(4, ()):  # row groups
        for chunk in group.get(1, ()):
            column = chunk.get(3, {})  # metadata of a column in it
            path = column.get(3, [b""])
            if columns is None or path[0].decode(errors="replace") in columns:
                total += max(column.get(6, 0), 8 * column.get(5, 0))  # uncompressed size, number of values
    return total


class _Compact:
    """Thrift's compact protocol, as nested dicts by field number."""

    def __init__(self, data: bytes) -> None:
        self.data, self.at = data, 0

    def struct(self) -> dict[int, Any]:
        fields: dict[int, Any] = {}
        number = 0
        while (head := self._byte()) != 0:
            number = number + (head >> 4) if head >> 4 else self._signed()
            fields[number] = self._value(head & 15)
        return fields

    def _value(self, kind: int) -> Any:
        if kind in (1, 2):
            return kind == 1
        if kind == 3:
            return self._byte()
        if kind in (4, 5, 6):
            return self._signed()
        if kind == 7:
            return struct.unpack("<d", self._take(8))[0]
        if kind == 8:
            return self._take(self._varint())
        if kind in (9, 10):
            head = self._byte()
            size = head >> 4 if head >> 4 < 15 else self._varint()
            return [self._item(head & 15) for _ in range(size)]
        if kind == 12:
            return self.struct()
        raise ValueError(f"no Parquet footer: field of type {kind}")

    def _item(self, kind: int) -> Any:
        return self._byte() == 1 if kind in (1, 2) else self._value(kind)

    def _byte(self) -> int:
        return self._take(1)[0]

    def _take(self, size: int) -> bytes:
        part = self.data[self.at : self.at + size]
        if len(part) < size:
            raise ValueError("no Parquet footer: it is cut short")
        self.at += size
        return part

    def _varint(self) -> int:
        result = shift = 0
        while True:
            byte = self._byte()
            result |= (byte & 127) << shift
            if byte < 128:
                return result
            shift += 7

    def _signed(self) -> int:
        value = self._varint()
        return value >> 1 ^ -(value & 1)
