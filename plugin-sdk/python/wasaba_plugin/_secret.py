"""A secret of the operator, as a handle: the agent has its text, the plugin has not."""

from __future__ import annotations

from typing import Any

from ._errors import Mistake, passed_on

# pytest shows the author's frames, not these.
__tracebackhide__ = True

# What is printed of a secret.
SHOWN = "<secret>"

CURE = "give it to `header_secret`, `bearer`, `basic_auth`, `send_secret` or a proof; `reveal()` is its text, if the operator allows that"


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
        return SHOWN

    __str__ = __repr__

    def __getattr__(self, name: str) -> Any:
        if not name.startswith("_") and hasattr(str, name):
            raise Mistake(f"a secret is not a text, it has no `{name}`: {CURE}")
        raise AttributeError(f"a secret has no attribute `{name}`")

    def __add__(self, _: object) -> Any:
        raise Mistake(f"a secret is not a text, nothing can be added to it: {CURE}")

    __radd__ = __add__


def without_secrets(text: str, what: str) -> str:
    """A text that is sent: a secret that was formatted into it would be sent as what is printed of it."""
    if SHOWN in text:
        raise Mistake(f"{what} has `{SHOWN}` for the text of a secret, which is not shown: {CURE}")
    return text


def handle(secret: Secret) -> Any:
    """The agent's handle of a secret."""
    if not isinstance(secret, Secret):
        raise Mistake(f"this takes a secret, the value of a setting of that kind, not {type(secret).__name__}")
    return secret._wire
