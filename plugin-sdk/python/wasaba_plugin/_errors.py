"""Why something failed: what a plugin raises, and what a capability raises in it."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

from . import _wire


# pytest shows the author's frames, not these.
__tracebackhide__ = True


class Error(Exception):
    """What the agent gets. The text is for the operator: it names the thing and, if possible, the cure, as a lower-case
    fragment. The subclasses say who has to act. What a capability raised is passed on by not catching it."""

    kind = "failed"

    def __init__(self, message: object, *, attributes: dict[str, str] | None = None) -> None:
        super().__init__(str(message))
        self.message = str(message)
        #: Facts for code to decide by, where a capability knows them: `tls` is `certificate`, `alert` or `not-tls`.
        self.attributes = dict(attributes or {})

    def __str__(self) -> str:
        return self.message


class Failed(Error):
    """Anything else: the target's answer is unusable."""


class Misconfigured(Error):
    """The settings cannot work: the operator has to fix them."""

    kind = "misconfigured"


class Unauthorized(Error):
    """The target refuses the user, the password or the certificate: the operator has to fix them."""

    kind = "unauthorized"


class Unreachable(Error, ConnectionError):
    """The target does not answer: it is down, or the network is. Also a `ConnectionError`, for code that expects one."""

    kind = "unreachable"


class Timeout(Error, TimeoutError):
    """The target does not answer in time. Also a `TimeoutError`."""

    kind = "timeout"


class Denied(Error, PermissionError):
    """The agent refused a capability: a grant is missing. Also a `PermissionError`."""

    kind = "denied"


class Unsupported(Error):
    """The target is too old, too new, or another thing than the plugin knows."""

    kind = "unsupported"


class Invalid(Error):
    """A request that makes no sense: a fault of the plugin, or a setting that it passed on unchecked."""

    kind = "invalid"


class TooLarge(Error):
    """Larger than the agent allows."""

    kind = "too-large"


class TooCostly(Error):
    """More work than the agent does for a call."""

    kind = "too-costly"


class Full(Error):
    """No room for what should be stored."""

    kind = "full"


class Busy(Error):
    """The target asked to be left alone for this long: the agent skips the plugin until then, for an hour at most."""

    kind = "unreachable"

    def __init__(self, message: object, wait: timedelta | float, *, attributes: dict[str, str] | None = None) -> None:
        super().__init__(message, attributes=attributes)
        self.wait = wait if isinstance(wait, timedelta) else timedelta(seconds=wait)


class Mistake(Failed):
    """A fault in the plugin's code, such as a name that nothing declares. The agent gets the file and line with it."""

    def __init__(self, message: object, place: str | None = None) -> None:
        super().__init__(message)
        self.place = place


KINDS: dict[str, type[Error]] = {
    kind.kind: kind
    for kind in (
        Misconfigured,
        Unauthorized,
        Unreachable,
        Timeout,
        Denied,
        Failed,
        Unsupported,
        Invalid,
        TooLarge,
        TooCostly,
        Full,
    )
}


def from_wire(error: Any, of: str = "") -> Error:
    """The exception for an error of a capability, which names what it is `of`."""
    message = error.message
    # An agent names the target itself where it can; others leave it to the plugin.
    if of and of not in message:
        message = f"{of}: {message}"
    attributes = dict(error.attributes)
    if error.retry_after_ms is not None:
        return Busy(message, timedelta(milliseconds=error.retry_after_ms), attributes=attributes)
    return KINDS.get(error.kind, Failed)(message, attributes=attributes)


class passed_on:
    """Turns what a capability returned as an error into an exception of this module, which names what it is `of`."""

    def __init__(self, of: str = "") -> None:
        self.of = of

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: Any, traceback: Any) -> None:
        if isinstance(error, _wire.Err):
            raise from_wire(error.value, self.of) from None


def told(error: BaseException) -> tuple[str, str, int | None, dict[str, str]]:
    """Kind, message, milliseconds to wait, and attributes of what the agent gets about an exception."""
    if isinstance(error, Mistake):
        place = error.place or _wire.place_in(error.__traceback__)
        return error.kind, error.message + (f" ({place})" if place else ""), None, error.attributes
    if isinstance(error, Error):
        wait = round(error.wait / timedelta(milliseconds=1)) if isinstance(error, Busy) else None
        return error.kind, error.message, wait, error.attributes
    # What a library raised, or the plugin itself: type, message, and the author's line that led there.
    text = re.sub(r"\s+", " ", str(error)).strip()
    place = _wire.place_in(error.__traceback__)
    message = type(error).__name__ + (f": {text}" if text else "") + (f" ({place})" if place else "")
    return "failed", message, None, {}
