"""The call itself, and the agent that makes it."""

from __future__ import annotations

from datetime import datetime, timedelta, timezone

from . import _wire

_call = _wire.interface("call")


def remaining() -> timedelta:
    """How much time is left until the call times out."""
    return timedelta(milliseconds=_call.remaining_ms())


def minute() -> datetime:
    """The minute that the call is for."""
    return datetime.fromtimestamp(_call.minute(), timezone.utc)


def limit(name: str) -> int | None:
    """A limit of the instance by its name in the operator's table, such as `samples`. None if the agent has no such limit."""
    value = _call.limit(name)
    return None if value is None else int(value)


def agent_version() -> str:
    """The agent's version."""
    return str(_call.agent_version())


def has(feature: str) -> bool:
    """Whether the agent has a capability (`tcp`), or what came to one later (`tcp.is-local`)."""
    return bool(_call.has(feature))
