"""The results of checks, and documents of metadata."""

from __future__ import annotations

import json
from typing import Any

from ._errors import Mistake


class Report:
    """A check's result: a status, and the message that the operator reads in the alert. One of several checks of a plugin has a name,
    which is added to that of the operator's table."""

    __slots__ = ("status", "message", "name")

    def __init__(self, status: str, message: object, name: str = "") -> None:
        self.status = status
        self.message = str(message)
        self.name = name

    @classmethod
    def ok(cls, message: object, *, name: str = "") -> Report:
        """Everything is as expected."""
        return cls("ok", message, name)

    @classmethod
    def warning(cls, message: object, *, name: str = "") -> Report:
        """Needs attention."""
        return cls("warning", message, name)

    @classmethod
    def critical(cls, message: object, *, name: str = "") -> Report:
        """Needs attention immediately."""
        return cls("critical", message, name)

    @classmethod
    def unknown(cls, message: object, *, name: str = "") -> Report:
        """The status could not be determined."""
        return cls("unknown", message, name)

    def __repr__(self) -> str:
        name = f", name={self.name!r}" if self.name else ""
        return f"Report.{self.status}({self.message!r}{name})"


class Document:
    """A value for JSON about the host. `namespace` is empty for the table's own name, or begins with that name and `-`."""

    __slots__ = ("value", "namespace")

    def __init__(self, value: Any, namespace: str = "") -> None:
        self.value = value
        self.namespace = namespace

    def text(self) -> str:
        try:
            return json.dumps(self.value, ensure_ascii=False, allow_nan=False)
        except (TypeError, ValueError) as error:
            raise Mistake(f"the document `{self.namespace}` cannot be JSON: {error}") from error

    def __repr__(self) -> str:
        return f"Document({self.value!r}, {self.namespace!r})"
