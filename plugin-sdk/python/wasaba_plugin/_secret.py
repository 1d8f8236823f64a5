"""A secret of the operator, as a handle: the agent has its text, the plugin has not."""

from __future__ import annotations

from typing import Any

from ._errors import Mistake, passed_on


class Secret:
    """A secret. Put it into a header (`http`), a message (`tcp`) or a proof (`crypto`). Printing it shows nothing of it."""

    __slots__ = ("_wire",)

    def __init__(self, wire: Any) -> None:
        self._wire = wire

    @property
    def length(self) -> int:
        """Its length in bytes, as for a message that announces it."""
        return int(self._wire.length())

    def reveal(self) -> str:
        """Its text; `Denied` unless the operator's table has `reveal = true`."""
        with passed_on():
            return str(self._wire.reveal())

    def __repr__(self) -> str:
        return "<secret>"

    __str__ = __repr__


def handle(secret: Secret) -> Any:
    """The agent's handle of a secret."""
    if not isinstance(secret, Secret):
        raise Mistake(f"this takes a secret, the value of a setting of that kind, not {type(secret).__name__}")
    return secret._wire
