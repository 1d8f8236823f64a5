"""Small values that an instance keeps from call to call. What a call sets is saved when the call succeeds."""

from __future__ import annotations

import struct
from datetime import timedelta

from . import _wire
from ._errors import passed_on

_kv = _wire.interface("kv")


def get(key: str) -> bytes | None:
    """The value of `key`, if there is one."""
    value = _kv.get(key)
    return None if value is None else bytes(value)


def set(key: str, value: bytes | str, *, lasts: timedelta | float | None = None) -> None:
    """Sets the value of `key`; with `lasts`, a `timedelta` or seconds, it is gone after that time."""
    millis = None
    if lasts is not None:
        millis = round(lasts / timedelta(milliseconds=1) if isinstance(lasts, timedelta) else lasts * 1_000)
    with passed_on():
        _kv.set(key, value.encode() if isinstance(value, str) else bytes(value), millis)


def delete(key: str) -> None:
    """Deletes `key`, if it is there."""
    _kv.delete(key)


def keys(prefix: str = "") -> list[str]:
    """All keys that begin with `prefix`, sorted."""
    return list(_kv.keys(prefix))


def growth(key: str, *now: int) -> tuple[int, ...] | None:
    """How much each of these counters has grown since the previous call, for values that are computed from several of them, such as a
    ratio. None in the first call, and when a counter was reset, as by a restart of its server."""
    layout = f"<{len(now)}Q"
    before = get(key)
    set(key, struct.pack(layout, *now))
    if before is None or len(before) != struct.calcsize(layout):
        return None
    grown = tuple(one - other for one, other in zip(now, struct.unpack(layout, before)))
    return grown if min(grown, default=0) >= 0 else None
