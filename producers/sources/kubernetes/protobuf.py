"""Protobuf's wire format, as far as messages of strings and messages need it. Pure."""

from __future__ import annotations

from schemas.errors import GigawatchError

_VARINT, _FIXED64, _BYTES, _FIXED32 = 0, 1, 2, 5
_FIXED = {_FIXED64: 8, _FIXED32: 4}


class InvalidProtobuf(GigawatchError, ValueError):
    """Bytes that are no message; the text states where and why."""


class Message:
    """The fields of one encoded message by their numbers. Fields that nobody asks for, such as those of newer peers,
    are read over. Raises InvalidProtobuf.
    """

    __slots__ = ("_fields",)

    def __init__(self, data: bytes) -> None:
        self._fields: dict[int, list[int | bytes]] = {}
        at = 0
        while at < len(data):
            key, at = _varint(data, at)
            number, wire = key >> 3, key & 7
            if number == 0:
                raise InvalidProtobuf(f"field number 0 before byte {at}")
            value: int | bytes
            if wire == _VARINT:
                value, at = _varint(data, at)
            else:
                if wire == _BYTES:
                    size, at = _varint(data, at)
                elif wire in _FIXED:
                    size = _FIXED[wire]
                else:
                    raise InvalidProtobuf(f"wire type {wire} of field {number} before byte {at}: proto3 has none such")
                if size > len(data) - at:
                    raise InvalidProtobuf(
                        f"field {number} has {size} bytes at byte {at}, and {len(data) - at} are left"
                    )
                value, at = data[at : at + size], at + size
            self._fields.setdefault(number, []).append(value)

    def messages(self, number: int) -> list[Message]:
        """Returns every message of a repeated field."""
        return [Message(each) for each in self._bytes(number)]

    def texts(self, number: int) -> list[str]:
        """Returns every string of a repeated field."""
        try:
            return [each.decode() for each in self._bytes(number)]
        except UnicodeDecodeError as err:
            raise InvalidProtobuf(f"field {number} is no UTF-8: {err}") from err

    def text(self, number: int) -> str:
        """Returns a string; empty when it is not there, the last one when it is there more than once."""
        return next(reversed(self.texts(number)), "")

    def _bytes(self, number: int) -> list[bytes]:
        found = self._fields.get(number, [])
        held = [each for each in found if isinstance(each, bytes)]
        if len(held) != len(found):
            raise InvalidProtobuf(f"field {number} is a number where bytes are due")
        return held


def _varint(data: bytes, at: int) -> tuple[int, int]:
    """Returns the number at byte `at`, seven bits a byte and the lowest first, and where the next thing begins."""
    value = 0
    for shift in range(0, 70, 7):
        if at >= len(data):
            raise InvalidProtobuf(f"a number is cut off at byte {at}")
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value, at
    raise InvalidProtobuf(f"a number of more than ten bytes before byte {at}")
