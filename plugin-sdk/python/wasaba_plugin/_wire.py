"""Where capabilities come from: the agent inside a component, a fake host in native tests.

componentize-py generates the package `wit_world` for the world that `build` makes; it does not exist natively. There each call goes to
the host of `wasaba_plugin.testing` that is active, which speaks the same functions, so that the SDK's own code is tested too.
"""

from __future__ import annotations

import importlib
import os
import sys
from dataclasses import dataclass
from typing import Any

try:
    from componentize_py_types import Err as Err  # type: ignore[import-not-found]
except ImportError:

    @dataclass(frozen=True)
    class Err(Exception):  # type: ignore[no-redef]  # noqa: F811
        """As componentize-py's: the failure case of a result."""

        value: Any


class _Natively:
    """An interface of the active fake host."""

    def __init__(self, name: str) -> None:
        self._name = name

    def __getattr__(self, item: str) -> Any:
        if not hosts:
            raise RuntimeError(
                f"there is no agent here that has `{self._name}`: in tests, use wasaba_plugin.testing.Host, or `with host:`"
            )
        return getattr(getattr(hosts[-1], "_" + self._name), item)


# The active fake hosts, the innermost last.
hosts: list[Any] = []


def interface(name: str) -> Any:
    """An imported interface of the contract. Called when a module is imported, since nothing can be imported later."""
    try:
        return importlib.import_module(f"wit_world.imports.{name}")
    except ImportError:
        return _Natively(name)


def exported(name: str) -> Any:
    """An exported interface of the contract, or None where the world has none of it."""
    try:
        return importlib.import_module(f"wit_world.exports.{name}")
    except ImportError:
        return None


# The modules that the plugin's author wrote: `build` fills it in. Natively, the plugin's module is added.
authors: set[str] = set()


def place_of(frame: Any) -> str | None:
    """File and line of the innermost frame, from this one outwards, that is of the author's code."""
    while frame is not None:
        if frame.f_globals.get("__name__") in authors:
            return place(frame.f_code.co_filename, frame.f_lineno)
        frame = frame.f_back
    return None


def place_in(traceback: Any) -> str | None:
    """File and line of the innermost frame in a traceback that is of the author's code."""
    found = None
    while traceback is not None:
        frame = traceback.tb_frame
        if frame.f_globals.get("__name__") in authors:
            found = place(frame.f_code.co_filename, traceback.tb_lineno)
        traceback = traceback.tb_next
    return found


def place(file: str, line: int) -> str:
    return f"{os.path.basename(file)}:{line}"


def caller(depth: int = 1) -> Any:
    """The frame that called the caller, or one further out."""
    return sys._getframe(depth + 1)
