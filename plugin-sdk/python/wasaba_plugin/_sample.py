"""What a call has read: samples, and the targets without."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from datetime import datetime, timedelta
from numbers import Real
from typing import TYPE_CHECKING, Any, Union

from . import _wire
from ._errors import Mistake

if TYPE_CHECKING:
    from ._description import Metric


# pytest shows the author's frames, not these.
__tracebackhide__ = True


class Sample:
    """The reading `value` of the metric with this full name: the graph's name, a dot, the metric's name. Whole numbers are exact up
    to 2^64; a `timedelta` counts in seconds; `True` is 1."""

    __slots__ = ("name", "value", "unix_seconds", "host", "labels", "_frame")

    def __init__(
        self,
        name: str,
        value: Any,
        *,
        at: datetime | int | None = None,
        host: str | None = None,
        labels: Mapping[str, str] | None = None,
    ) -> None:
        if not isinstance(name, str):
            raise Mistake(f"a sample's name must be a text, not {name!r}")
        self.name = name
        self.value: int | float = number(name, value)
        #: When it was read, in seconds since 1970, if not now.
        self.unix_seconds = int(at.timestamp()) if isinstance(at, datetime) else at
        #: The custom identifier of its host, if it is not the one of the operator's table.
        self.host = host
        self.labels = dict(labels or {})
        self._frame = _wire.place_of(_wire.caller())

    def at(self, time: datetime | int) -> Sample:
        """The same sample, read at this time. The agent drops what is more than 23 hours old."""
        self.unix_seconds = int(time.timestamp()) if isinstance(time, datetime) else int(time)
        return self

    def of_host(self, custom_identifier: str) -> Sample:
        """The same sample for the host with this custom identifier on Mackerel, which the operator must list in `hosts`."""
        self.host = custom_identifier
        return self

    def label(self, key: str, value: str) -> Sample:
        """The same sample with a label more. Mackerel has none."""
        self.labels[key] = value
        return self

    def __repr__(self) -> str:
        return f"Sample({self.name!r}, {self.value!r})"

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Sample):
            return NotImplemented
        own = (self.name, self.value, self.unix_seconds, self.host, self.labels)
        return own == (other.name, other.value, other.unix_seconds, other.host, other.labels)

    __hash__ = None  # type: ignore[assignment]


def number(name: str, value: Any) -> int | float:
    """A value as the contract has it: a whole number of 64 bits without sign, or a finite float."""
    if isinstance(value, timedelta):
        value = value.total_seconds()
    if isinstance(value, int):
        return int(value) if 0 <= value < 1 << 64 else float(value)
    # Decimal is not a Real, but close enough.
    if isinstance(value, Real) or (hasattr(value, "__float__") and not isinstance(value, str)):
        finite = float(value)
        if math.isfinite(finite):
            return finite
        raise Mistake(f"the value of sample `{name}` is {finite}: leave out what has no value")
    kind = "None: leave out what has no value" if value is None else f"{value!r}, of type {type(value).__name__}"
    raise Mistake(f"the value of sample `{name}` must be a number, not {kind}")


class Problem:
    """A target without samples, of several, in the operator's words; and why."""

    __slots__ = ("target", "error")

    def __init__(self, target: object, error: Exception) -> None:
        self.target = str(target)
        if not isinstance(error, Exception):
            raise Mistake(f"the problem with `{self.target}` must be an exception, not {error!r}")
        self.error = error

    def __repr__(self) -> str:
        return f"Problem({self.target!r}, {self.error!r})"


class Readings:
    """What a call has read. What `collect` returns becomes this; a plugin need not make one."""

    __slots__ = ("samples", "problems")

    def __init__(self, samples: Iterable[Sample] = (), problems: Iterable[Problem] = ()) -> None:
        self.samples = list(samples)
        self.problems = list(problems)

    def __getitem__(self, name: str | Metric) -> int | float:
        """The value of the sample with this name, for tests."""
        wanted = name if isinstance(name, str) else name.pattern
        for sample in self.samples:
            if sample.name == wanted:
                return sample.value
        raise KeyError(wanted)

    def values(self) -> dict[str, int | float]:
        """All values by name, for tests."""
        return {sample.name: sample.value for sample in self.samples}


Read = Union[Sample, "tuple[str, Any]", Problem]


def readings(given: Any, function: Any) -> Readings:
    """What `collect` returned or yields: samples, pairs of name and value, and problems, in any order; or names and values."""
    if isinstance(given, Readings):
        return given
    if given is None:
        code = function.__code__
        place = _wire.place(code.co_filename, code.co_firstlineno)
        raise Mistake("`collect` returned nothing: yield samples, or return a list of them", place)
    if isinstance(given, (Sample, Problem)):
        given = [given]
    if isinstance(given, Mapping):
        given = given.items()
    result = Readings()
    for one in given:
        if isinstance(one, Sample):
            result.samples.append(one)
        elif isinstance(one, Problem):
            result.problems.append(one)
        else:
            place = where(given, function)
            if not (isinstance(one, tuple) and len(one) == 2 and isinstance(one[0], str)):
                raise Mistake(f"`collect` must give samples, not {one!r}", place)
            try:
                sample = Sample(*one)
            except Mistake as mistake:
                mistake.place = place
                raise
            sample._frame = place
            result.samples.append(sample)
    return result


def where(given: Any, function: Any) -> str:
    """The line of the `yield` that a generator stands at, or where the function begins."""
    frame = getattr(given, "gi_frame", None)
    if frame is not None:
        # The innermost of generators that delegate with `yield from`.
        while getattr(given.gi_yieldfrom, "gi_frame", None) is not None:
            given = given.gi_yieldfrom
        return _wire.place(given.gi_frame.f_code.co_filename, given.gi_frame.f_lineno)
    code = function.__code__
    return _wire.place(code.co_filename, code.co_firstlineno)
