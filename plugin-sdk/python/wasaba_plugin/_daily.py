"""Warnings that are not repeated every minute. Apart from `log`, since it uses `kv`, too."""

from __future__ import annotations

import time

from . import kv, log


def warning_daily(topic: str, line: object) -> None:
    """Like `log.warning`, but at most once a day for each `topic`: for problems that persist until the operator acts."""
    now, key = int(time.time()), f"warned: {topic}"
    last = kv.get(key)
    # If the clock was set back, it counts as another day.
    if last is None or not 0 <= now - int.from_bytes(last, "little") < 24 * 60 * 60:
        log.warning(line)
        kv.set(key, now.to_bytes(8, "little"))
