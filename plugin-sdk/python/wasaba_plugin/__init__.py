"""Write plugins for the wasaba agent in Python: a description, and a function that yields samples.

The capabilities are the modules `http`, `tcp`, `kv`, `log`, `files`, `crypto` and `call`: the component imports from the agent those
that the plugin imports, and no other.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from ._description import (
    Endpoint,
    Graph,
    Metric,
    Reach,
    Setting,
    Unit,
    delta,
    gauge,
    per_minute,
    per_minute_32,
    per_second,
    segment,
)
from ._errors import (
    Busy,
    Denied,
    Error,
    Failed,
    Full,
    Invalid,
    Misconfigured,
    Mistake,
    Timeout,
    TooCostly,
    TooLarge,
    Unauthorized,
    Unreachable,
    Unsupported,
)
from ._plugin import Plugin
from ._report import Document, Report
from ._sample import Problem, Readings, Sample
from ._secret import Secret
from ._settings import Settings

if TYPE_CHECKING:
    from ._up import up as up
    from .kv import growth as growth

__version__ = "0.2.0"

__all__ = [
    "Busy",
    "Denied",
    "Document",
    "Endpoint",
    "Error",
    "Failed",
    "Full",
    "Graph",
    "Invalid",
    "Metric",
    "Misconfigured",
    "Mistake",
    "Plugin",
    "Problem",
    "Reach",
    "Readings",
    "Report",
    "Sample",
    "Secret",
    "Setting",
    "Settings",
    "Timeout",
    "TooCostly",
    "TooLarge",
    "Unauthorized",
    "Unit",
    "Unreachable",
    "Unsupported",
    "delta",
    "gauge",
    "per_minute",
    "per_minute_32",
    "per_second",
    "segment",
]


def __getattr__(name: str) -> Any:
    # Only on request: these use capabilities, which a component that does not use them must not import.
    if name == "up":
        from ._up import up

        return up
    if name == "growth":
        from .kv import growth

        return growth
    raise AttributeError(f"module `wasaba_plugin` has no attribute `{name}`")
