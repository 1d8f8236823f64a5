"""What the agent refuses in a description, told where the author writes it."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from urllib.parse import urlsplit

from ._errors import Mistake

# pytest shows the author's frames, not these.
__tracebackhide__ = True

_SEGMENT = re.compile(r"[-a-zA-Z0-9_]+", re.ASCII)
_KEY = re.compile(r"[-a-zA-Z0-9_]{1,64}", re.ASCII)
_LONGEST = 255
_CHARACTERS = "letters, digits, - and _ are allowed"

_checked = True


@contextmanager
def unchecked() -> Iterator[None]:
    """Leaves names to the agent."""
    global _checked
    _checked = False
    try:
        yield
    finally:
        _checked = True


def refuse_key(name: str, what: str) -> None:
    """A name of a plugin, or a setting's key."""
    if not _KEY.fullmatch(name):
        raise Mistake(f"{what} must not be {name!r}: {_CHARACTERS}, 64 at most")


def refuse_graph(name: str) -> None:
    parts = name.split(".")
    if not _checked:
        return
    for part in parts:
        if part not in ("*", "#") and not _SEGMENT.fullmatch(part):
            raise Mistake(f"graph `{name}` has the invalid segment {part!r}: {_CHARACTERS}, or one `*` or `#` alone; segments are joined by dots")
    if parts[0] == "custom":
        raise Mistake(f"graph `{name}` must not begin with `custom.`: the agent adds it")
    if parts.count("#") > 1:
        raise Mistake(f"graph `{name}` has `#` twice: write `*` for the other one")
    refuse_long(name, f"the name of graph `{name[:40]}`")


def refuse_metric(name: str) -> None:
    if _checked and name != "*" and not _SEGMENT.fullmatch(name):
        raise Mistake(f"the name of a metric must not be {name!r}: {_CHARACTERS}, or `*` alone; it is one segment, what people read is the label")


def refuse_long(text: str, what: str) -> None:
    if _checked and len(text.encode()) > _LONGEST:
        raise Mistake(f"{what} has {len(text.encode())} bytes, more than {_LONGEST}")


def refuse_default(key: str, kind: str, value: str, aliases: Mapping[str, str]) -> None:
    """A default that the agent would not accept from an operator."""
    if kind == "secret":
        raise Mistake(f"setting `{key}` is a secret, which cannot have a default")
    wanted = _unlike(kind, value, aliases)
    if wanted:
        raise Mistake(f"the default of setting `{key}` must be {wanted}, not {value!r}")


def _unlike(kind: str, value: str, aliases: Mapping[str, str]) -> str | None:
    """What a value of this kind must be, if this one is not."""
    if kind == "integer":
        return None if _is_whole(value, -(1 << 63), (1 << 63) - 1) else "a whole number of 64 bits"
    if kind == "number":
        return None if _is_finite(value) else "a number"
    if kind in ("boolean", "tls-skip-verify"):
        return None if value in ("true", "false") else "True or False"
    if kind == "duration":
        return None if re.fullmatch(r"[0-9]+(ms|s|m|h)", value) else "a duration like 500ms, 10s or 5m"
    if kind == "url":
        return None if _is_url(value) else "an http or https URL"
    if kind == "endpoint":
        host, colon, port = value.rpartition(":")
        return None if host and colon and _is_whole(port, 1, 65_535) else "a host and a port like db:5432"
    if kind == "host":
        return None if value and not set(value) & set(" /@") else "a host name or address"
    if kind == "port":
        return None if _is_whole(value, 1, 65_535) else "a port from 1 to 65535"
    if kind in ("unix-socket", "file"):
        return None if value.startswith("/") else "an absolute path"
    if kind == "tls-mode":
        words = [*aliases, "off", "encrypt", "ca", "full"]
        return None if value in words else f"one of {', '.join(words)}"
    return None


def _is_whole(text: str, least: int, most: int) -> bool:
    return bool(re.fullmatch(r"[-+]?[0-9]+", text, re.ASCII)) and least <= int(text) <= most


def _is_finite(text: str) -> bool:
    try:
        return math.isfinite(float(text))
    except ValueError:
        return False


def _is_url(text: str) -> bool:
    try:
        parts = urlsplit(text)
        return parts.scheme in ("http", "https") and bool(parts.hostname) and not re.search(r"\s", text) and parts.port != 0
    except ValueError:
        return False
