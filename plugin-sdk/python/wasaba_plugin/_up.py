"""Whether the target is up, as a metric."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import kv, log
from ._description import Metric
from ._errors import Failed, Mistake, Timeout, Unreachable, Unsupported
from ._sample import Sample

# Set while the target is down, so that this is logged once.
_KEY = "down"


def up(metric: Metric | str, collected: Iterable[Any]) -> list[Any]:
    """What was `collected`, usually by a generator, and `metric`: 1 if the target answered; 0, alone, if it did not answer or its answer
    is unusable. That is then not an error of the plugin any more, so it is logged with its reason when it begins, and when the target
    recovers. An error that the operator has to fix stays one, since it says nothing about the target."""
    try:
        samples = list(collected)
    except Mistake:
        raise
    except (Unreachable, Timeout, Unsupported, Failed) as error:
        if kv.get(_KEY) is None:
            log.warning(f"the target is down: {error}")
            kv.set(_KEY, b"")
        return [_sample(metric, 0)]
    if kv.get(_KEY) is not None:
        log.info("the target is up again")
        kv.delete(_KEY)
    return [*samples, _sample(metric, 1)]


def _sample(metric: Metric | str, value: int) -> Sample:
    return metric(value) if isinstance(metric, Metric) else Sample(metric, value)
