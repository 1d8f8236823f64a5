"""Lines in the agent's log, for what is not an error: errors are raised, and the agent logs them.

The standard `logging` works, too: `build` sees who imports it, and this module connects it with the agent's log. Its root level is
INFO; `logging.getLogger().setLevel(logging.DEBUG)` changes it.
"""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from . import _wire

if TYPE_CHECKING:
    from ._daily import warning_daily as warning_daily

_log = _wire.interface("log")


def debug(line: object) -> None:
    """A line that is logged only if the agent is verbose."""
    _write("DEBUG", line)


def info(line: object) -> None:
    """A line that is always logged."""
    _write("INFO", line)


def warning(line: object) -> None:
    """A problem that the operator should look into, although the values are still correct."""
    _write("WARNING", line)


def error(line: object) -> None:
    """A problem that is not the call's own failure."""
    _write("ERROR", line)


def _write(level: str, line: object) -> None:
    _log.write(getattr(_log.Level, level), str(line))


def __getattr__(name: str) -> Any:
    # Only on request, since it uses another capability; `build` sees who does.
    if name == "warning_daily":
        from ._daily import warning_daily

        return warning_daily
    raise AttributeError(f"module `wasaba_plugin.log` has no attribute `{name}`")


class Handler(logging.Handler):
    """A handler of `logging` that writes into the agent's log. The root logger has one."""

    def emit(self, record: logging.LogRecord) -> None:
        level = next(
            (
                word
                for least, word in ((logging.ERROR, "ERROR"), (logging.WARNING, "WARNING"), (logging.INFO, "INFO"))
                if record.levelno >= least
            ),
            "DEBUG",
        )
        try:
            _write(level, self.format(record))
        except Exception:
            self.handleError(record)


def _connect() -> None:
    root = logging.getLogger()
    if not any(isinstance(handler, Handler) for handler in root.handlers):
        root.addHandler(Handler())
        root.setLevel(logging.INFO)


# Natively, a fake host does it while it is active.
if not isinstance(_log, _wire._Natively):
    _connect()
