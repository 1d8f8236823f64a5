"""The settings of one instance, validated by the agent."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Sequence
from datetime import timedelta
from typing import Any, TypeVar, overload

from ._description import Endpoint, Setting
from ._errors import Misconfigured, Mistake
from ._secret import CURE, Secret

T = TypeVar("T")


# pytest shows the author's frames, not these.
__tracebackhide__ = True


class Settings:
    """An instance's settings: what the operator wrote, with the defaults filled in. `settings[setting]` is a value in the type of its
    kind; a key may also be given as text. A key that the plugin does not declare is the author's mistake."""

    def __init__(self, declared: Iterable[Setting[Any]], pairs: Iterable[tuple[str, str | Secret]]) -> None:
        self._declared = {setting.key: setting for setting in declared}
        self._pairs = list(pairs)

    def __repr__(self) -> str:
        return f"<settings {', '.join(sorted({key for key, _ in self._pairs}))}>"

    def _of(self, key: Setting[Any] | str) -> Setting[Any]:
        name = key.key if isinstance(key, Setting) else key
        declared = self._declared.get(name)
        if declared is None:
            near = difflib.get_close_matches(str(name), self._declared, 1)
            cure = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(self._declared) or 'none'}"
            raise Mistake(f"the plugin declares no setting `{name}`: {cure}")
        return declared

    def _values(self, key: Setting[Any] | str) -> list[Any]:
        setting = self._of(key)
        values = [value for name, value in self._pairs if name == setting.key]
        # An empty secret is as good as none.
        return [value for value in values if not isinstance(value, Secret) or value.length]

    @overload
    def __getitem__(self, key: Setting[T]) -> T: ...
    @overload
    def __getitem__(self, key: str) -> Any: ...
    def __getitem__(self, key: Setting[Any] | str) -> Any:
        """The value in the type of its kind: an int for `integer` and `port`, a bool, a float, a `timedelta`, an `Endpoint`, a `Secret`,
        else a str. A list if it is repeatable, None if it is not set."""
        setting = self._of(key)
        values = [parsed(setting, value) for value in self._values(setting)]
        if setting.repeatable:
            return values
        return values[-1] if values else None

    def __contains__(self, key: Setting[Any] | str) -> bool:
        """Whether it is set."""
        return bool(self._values(key))

    def get(self, key: Setting[Any] | str) -> str | None:
        """The value as text, if it is set; not for a secret."""
        texts = self.all(key)
        return texts[-1] if texts else None

    def text(self, key: Setting[Any] | str) -> str:
        """The value as text; `Misconfigured` if it is not set."""
        value = self.get(key)
        if value is None:
            raise Misconfigured(f"`{self._of(key).key}` is not set")
        return value

    def all(self, key: Setting[Any] | str) -> list[str]:
        """Each value of a repeatable setting as text, in the operator's order."""
        setting = self._of(key)
        if setting.kind == "secret":
            raise Mistake(f"setting `{setting.key}` is a secret, not a text: `settings[...]` is its handle; {CURE}")
        return [value for value in self._values(setting) if not isinstance(value, Secret)]

    def secret(self, key: Setting[Any] | str) -> Secret | None:
        """The secret, if it is set and not empty."""
        secrets = self.secrets(key)
        return secrets[-1] if secrets else None

    def secrets(self, key: Setting[Any] | str) -> list[Secret]:
        """Each value of a repeatable secret, in the operator's order."""
        if self._of(key).kind != "secret":
            raise Mistake(f"setting `{self._of(key).key}` is not a secret")
        return [value for value in self._values(key) if isinstance(value, Secret)]

    def one_of(self, key: Setting[Any] | str, valid: Sequence[str]) -> str:
        """The value, which must be one of `valid`."""
        return _known(self._of(key).key, self.text(key), valid)

    def some_of(self, key: Setting[Any] | str, valid: Sequence[str]) -> list[str]:
        """The values of a repeatable setting, each of which must be one of `valid`."""
        return [_known(self._of(key).key, value, valid) for value in self.all(key)]


def _known(key: str, value: str, valid: Sequence[str]) -> str:
    if value in valid:
        return value
    near = difflib.get_close_matches(value, valid, 1)
    meant = f', did you mean "{near[0]}"? ' if near else "; "
    raise Misconfigured(f'unknown value "{value}" in `{key}`{meant}valid: {", ".join(valid)}')


_MILLIS = {"ms": 1, "s": 1_000, "m": 60_000, "h": 3_600_000}


def duration(text: str) -> timedelta:
    digits = text.rstrip("abcdefghijklmnopqrstuvwxyz")
    if not (digits.isascii() and digits.isdigit()) or text[len(digits) :] not in _MILLIS:
        raise ValueError(text)
    return timedelta(milliseconds=int(digits) * _MILLIS[text[len(digits) :]])


def endpoint(text: str) -> Endpoint:
    host, _, port = text.rpartition(":")
    return Endpoint(host, int(port))


def parsed(setting: Setting[Any], value: Any) -> Any:
    """A value in the type of its setting's kind. The agent has validated it, so this fails only for a fake host's."""
    convert: Any = {
        "integer": int,
        "port": int,
        "number": float,
        "boolean": lambda text: text == "true",
        "tls-skip-verify": lambda text: text == "true",
        "duration": duration,
        "endpoint": endpoint,
    }.get(setting.kind)
    if convert is None or isinstance(value, Secret):
        return value
    try:
        return convert(value)
    except ValueError:
        raise Misconfigured(f'invalid value "{value}" in `{setting.key}`: it must be of kind {setting.kind}') from None
