"""A plugin's description: its settings and its graphs."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping
from datetime import timedelta
from typing import Any, Generic, Literal, NamedTuple, TypeVar, overload

from ._errors import Mistake
from ._names import refuse_default, refuse_graph, refuse_key, refuse_long, refuse_metric
from ._sample import Sample
from ._secret import Secret

Unit = Literal[
    "float",
    "integer",
    "percentage",
    "seconds",
    "milliseconds",
    "bytes",
    "bytes-per-second",
    "bits-per-second",
    "iops",
]
UNITS = Unit.__args__  # type: ignore[attr-defined]

Reach = Literal["http", "tcp", "unix", "file"]
REACHES = Reach.__args__  # type: ignore[attr-defined]


# pytest shows the author's frames, not these.
__tracebackhide__ = True


class Endpoint(NamedTuple):
    """The value of a setting of kind `endpoint`, as the operator wrote it: an IPv6 address is in brackets."""

    host: str
    port: int

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


T = TypeVar("T")


class Setting(Generic[T]):
    """A setting. Its kinds are those of the contract: the agent validates the value, and some kinds are grants at the same time.
    `settings[setting]` is its value in the type of its kind."""

    __slots__ = ("key", "kind", "default", "required", "repeatable", "port_of", "help", "aliases")

    def __init__(
        self,
        key: str,
        kind: str,
        *,
        default: object = None,
        required: bool = False,
        repeatable: bool = False,
        port_of: Setting[Any] | str | None = None,
        help: str = "",
        aliases: Mapping[str, str] | None = None,
    ) -> None:
        self.key = _text(key, "a setting's key")
        refuse_key(key, "a setting's key")
        self.kind = kind
        self.default = None if default is None else _default(key, kind, default, aliases or {})
        self.required = bool(required)
        self.repeatable = bool(repeatable)
        self.port_of = port_of.key if isinstance(port_of, Setting) else port_of
        self.help = _text(help, f"the help of setting `{key}`")
        self.aliases = dict(aliases or {})

    def __repr__(self) -> str:
        return f"Setting.{self.kind.replace('-', '_')}({self.key!r})"

    # What an instance without it has is None, unless it is required or has a default; a repeatable one has a list.
    @overload
    @staticmethod
    def text(key: str, *, repeatable: Literal[True], default: str | None = ..., required: bool = ..., help: str = ...) -> Setting[list[str]]: ...
    @overload
    @staticmethod
    def text(key: str, *, default: str, help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def text(key: str, *, required: Literal[True], help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def text(key: str, *, help: str = ...) -> Setting[str | None]: ...

    @staticmethod
    def text(key: str, **more: Any) -> Setting[Any]:
        """Any text."""
        return Setting(key, "text", **more)

    @overload
    @staticmethod
    def secret(key: str, *, repeatable: Literal[True], required: bool = ..., help: str = ...) -> Setting[list[Secret]]: ...
    @overload
    @staticmethod
    def secret(key: str, *, required: Literal[True], help: str = ...) -> Setting[Secret]: ...
    @overload
    @staticmethod
    def secret(key: str, *, help: str = ...) -> Setting[Secret | None]: ...

    @staticmethod
    def secret(key: str, **more: Any) -> Setting[Any]:
        """Any text that the agent never shows; the plugin gets a `Secret`. It has no default."""
        return Setting(key, "secret", **more)

    @overload
    @staticmethod
    def integer(key: str, *, repeatable: Literal[True], default: int | None = ..., required: bool = ..., help: str = ...) -> Setting[list[int]]: ...
    @overload
    @staticmethod
    def integer(key: str, *, default: int, help: str = ...) -> Setting[int]: ...
    @overload
    @staticmethod
    def integer(key: str, *, required: Literal[True], help: str = ...) -> Setting[int]: ...
    @overload
    @staticmethod
    def integer(key: str, *, help: str = ...) -> Setting[int | None]: ...

    @staticmethod
    def integer(key: str, **more: Any) -> Setting[Any]:
        """A whole number of 64 bits, with sign."""
        return Setting(key, "integer", **more)

    @overload
    @staticmethod
    def number(key: str, *, repeatable: Literal[True], default: float | None = ..., required: bool = ..., help: str = ...) -> Setting[list[float]]: ...
    @overload
    @staticmethod
    def number(key: str, *, default: float, help: str = ...) -> Setting[float]: ...
    @overload
    @staticmethod
    def number(key: str, *, required: Literal[True], help: str = ...) -> Setting[float]: ...
    @overload
    @staticmethod
    def number(key: str, *, help: str = ...) -> Setting[float | None]: ...

    @staticmethod
    def number(key: str, **more: Any) -> Setting[Any]:
        """A decimal number."""
        return Setting(key, "number", **more)

    @staticmethod
    def boolean(key: str, *, default: bool = False, help: str = "") -> Setting[bool]:
        """`true` or `false`."""
        return Setting(key, "boolean", default=default, help=help)

    @overload
    @staticmethod
    def duration(key: str, *, default: timedelta | str, help: str = ...) -> Setting[timedelta]: ...
    @overload
    @staticmethod
    def duration(key: str, *, required: Literal[True], help: str = ...) -> Setting[timedelta]: ...
    @overload
    @staticmethod
    def duration(key: str, *, help: str = ...) -> Setting[timedelta | None]: ...

    @staticmethod
    def duration(key: str, **more: Any) -> Setting[Any]:
        """A length of time, `500ms`, `10s`, `5m`; a `timedelta`."""
        return Setting(key, "duration", **more)

    @overload
    @staticmethod
    def url(key: str, *, repeatable: Literal[True], default: str | None = ..., required: bool = ..., help: str = ...) -> Setting[list[str]]: ...
    @overload
    @staticmethod
    def url(key: str, *, default: str, help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def url(key: str, *, required: Literal[True], help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def url(key: str, *, help: str = ...) -> Setting[str | None]: ...

    @staticmethod
    def url(key: str, **more: Any) -> Setting[Any]:
        """An absolute http or https URL, and the grant to fetch from there."""
        return Setting(key, "url", **more)

    @overload
    @staticmethod
    def endpoint(key: str, *, repeatable: Literal[True], default: str | None = ..., required: bool = ..., help: str = ...) -> Setting[list[Endpoint]]: ...
    @overload
    @staticmethod
    def endpoint(key: str, *, default: str, help: str = ...) -> Setting[Endpoint]: ...
    @overload
    @staticmethod
    def endpoint(key: str, *, required: Literal[True], help: str = ...) -> Setting[Endpoint]: ...
    @overload
    @staticmethod
    def endpoint(key: str, *, help: str = ...) -> Setting[Endpoint | None]: ...

    @staticmethod
    def endpoint(key: str, **more: Any) -> Setting[Any]:
        """A host and a port, `db:5432`, and the grant to connect there; an `Endpoint`."""
        return Setting(key, "endpoint", **more)

    @overload
    @staticmethod
    def host(key: str, *, default: str, help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def host(key: str, *, required: Literal[True], help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def host(key: str, *, help: str = ...) -> Setting[str | None]: ...

    @staticmethod
    def host(key: str, **more: Any) -> Setting[Any]:
        """A host name or IP address; together with the `port` that is `of` it, a grant."""
        return Setting(key, "host", **more)

    @overload
    @staticmethod
    def port(key: str, *, of: Setting[Any] | str | None = ..., default: int, help: str = ...) -> Setting[int]: ...
    @overload
    @staticmethod
    def port(key: str, *, of: Setting[Any] | str | None = ..., required: Literal[True], help: str = ...) -> Setting[int]: ...
    @overload
    @staticmethod
    def port(key: str, *, of: Setting[Any] | str | None = ..., help: str = ...) -> Setting[int | None]: ...

    @staticmethod
    def port(key: str, *, of: Setting[Any] | str | None = None, **more: Any) -> Setting[Any]:
        """A TCP port; together with the host that it is `of`, a grant."""
        return Setting(key, "port", port_of=of, **more)

    @overload
    @staticmethod
    def unix_socket(key: str, *, default: str, help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def unix_socket(key: str, *, required: Literal[True], help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def unix_socket(key: str, *, help: str = ...) -> Setting[str | None]: ...

    @staticmethod
    def unix_socket(key: str, **more: Any) -> Setting[Any]:
        """The absolute path of a unix socket, and the grant to connect to it."""
        return Setting(key, "unix-socket", **more)

    @overload
    @staticmethod
    def file(key: str, *, repeatable: Literal[True], default: str | None = ..., required: bool = ..., help: str = ...) -> Setting[list[str]]: ...
    @overload
    @staticmethod
    def file(key: str, *, default: str, help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def file(key: str, *, required: Literal[True], help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def file(key: str, *, help: str = ...) -> Setting[str | None]: ...

    @staticmethod
    def file(key: str, **more: Any) -> Setting[Any]:
        """The absolute path of a file, and the grant to read it."""
        return Setting(key, "file", **more)

    @staticmethod
    def tls_skip_verify(key: str = "tls-skip-verify", *, default: bool = False, help: str = "") -> Setting[bool]:
        """With `true` the agent accepts any certificate on this instance's connections."""
        return Setting(key, "tls-skip-verify", default=default, help=help)

    @overload
    @staticmethod
    def tls_mode(key: str, *, default: str, aliases: Mapping[str, str] = ..., help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def tls_mode(key: str, *, required: Literal[True], aliases: Mapping[str, str] = ..., help: str = ...) -> Setting[str]: ...
    @overload
    @staticmethod
    def tls_mode(key: str, *, aliases: Mapping[str, str] = ..., help: str = ...) -> Setting[str | None]: ...

    @staticmethod
    def tls_mode(key: str, **more: Any) -> Setting[Any]:
        """How a connection uses TLS: `off`, `encrypt`, `ca` or `full`, and `aliases` of them."""
        return Setting(key, "tls-mode", **more)


def _text(text: object, what: str) -> str:
    if not isinstance(text, str):
        raise Mistake(f"{what} must be a text, not {text!r}")
    return text


def _default(key: str, kind: str, value: object, aliases: Mapping[str, str]) -> str:
    if isinstance(value, bool):
        text = "true" if value else "false"
    elif isinstance(value, timedelta):
        text = f"{round(value / timedelta(milliseconds=1))}ms"
    elif isinstance(value, (str, int, float, Endpoint)):
        text = str(value)
    else:
        raise Mistake(f"the default of setting `{key}` must be a text or a number, not {value!r}")
    refuse_default(key, kind, text, aliases)
    return text


class Metric:
    """A line of a graph. Called with a value, it is the sample: `waiting(3)`; under a name with wildcards, with what stands for each:
    `busy(1, "worker 7")`."""

    __slots__ = ("name", "label", "reading", "stacked", "scale", "graph")

    def __init__(self, name: str, label: str, reading: str, stacked: bool, scale: float | None) -> None:
        self.name = _text(name, "a metric's name")
        refuse_metric(name)
        self.label = _text(label, f"the label of metric `{name}`")
        refuse_long(label, f"the label of metric `{name}`")
        self.reading = reading
        self.stacked = bool(stacked)
        if scale is not None and (not math.isfinite(scale) or scale == 0):
            raise Mistake(f"the scale of metric `{name}` must not be {scale}")
        self.scale = None if scale is None else float(scale)
        self.graph: Graph | None = None

    def __repr__(self) -> str:
        return f"<metric {self.pattern}>"

    @property
    def pattern(self) -> str:
        """Its full name, with wildcards."""
        return f"{self.graph.name}.{self.name}" if self.graph else self.name

    def __call__(self, value: Any, *segments: object) -> Sample:
        if self.graph is None:
            raise Mistake(f"metric `{self.name}` belongs to no graph: give it to one")
        rest = list(segments)
        parts = []
        for part in self.pattern.split("."):
            if part in ("*", "#"):
                if not rest:
                    raise Mistake(f"`{self.pattern}` needs a text for each wildcard: metric(value, text)")
                part = segment(rest.pop(0))
            parts.append(part)
        if rest:
            raise Mistake(f"`{self.pattern}` has no wildcard for {rest[0]!r}")
        return Sample(".".join(parts), value)


def gauge(name: str, label: str = "", *, stacked: bool = False, scale: float | None = None) -> Metric:
    """A reading that is posted as it is."""
    return Metric(name, label, "gauge", stacked, scale)


def per_minute(name: str, label: str = "", *, stacked: bool = False, scale: float | None = None) -> Metric:
    """A counter whose growth per minute is posted."""
    return Metric(name, label, "per-minute", stacked, scale)


def per_second(name: str, label: str = "", *, stacked: bool = False, scale: float | None = None) -> Metric:
    """A counter whose growth per second is posted."""
    return Metric(name, label, "per-second", stacked, scale)


def delta(name: str, label: str = "", *, stacked: bool = False, scale: float | None = None) -> Metric:
    """A counter whose growth since the previous call is posted."""
    return Metric(name, label, "delta", stacked, scale)


def per_minute_32(name: str, label: str = "", *, stacked: bool = False, scale: float | None = None) -> Metric:
    """A counter that wraps at 2^32, whose growth per minute is posted."""
    return Metric(name, label, "per-minute-32", stacked, scale)


class Graph:
    """A graph on Mackerel. `name`: segments joined by dots, without `custom.`; a segment may be `*`, and one `#`."""

    __slots__ = ("name", "label", "unit", "metrics")

    def __init__(self, name: str, label: str, unit: Unit, *metrics: Metric) -> None:
        self.name = _text(name, "a graph's name")
        refuse_graph(name)
        self.label = _text(label, f"the label of graph `{name}`")
        refuse_long(label, f"the label of graph `{name}`")
        if unit not in UNITS:
            raise Mistake(f"the unit of graph `{name}` must be one of {', '.join(UNITS)}, not {unit!r}")
        self.unit = unit
        self.metrics: list[Metric] = []
        for metric in metrics:
            self.metric(metric)

    def __repr__(self) -> str:
        return f"Graph({self.name!r})"

    def metric(self, metric: Metric) -> Metric:
        """Adds a metric and returns it."""
        if not isinstance(metric, Metric):
            raise Mistake(f"graph `{self.name}` takes metrics such as gauge(\"name\", \"label\"), not {metric!r}")
        if metric.graph is not None:
            raise Mistake(f"metric `{metric.pattern}` already belongs to a graph")
        if any(other.name == metric.name for other in self.metrics):
            raise Mistake(f"graph `{self.name}` has metric `{metric.name}` twice")
        metric.graph = self
        self.metrics.append(metric)
        return metric

    def gauge(self, name: str, label: str = "", *, stacked: bool = False, scale: float | None = None) -> Metric:
        """Adds a reading that is posted as it is."""
        return self.metric(gauge(name, label, stacked=stacked, scale=scale))

    def per_minute(self, name: str, label: str = "", *, stacked: bool = False, scale: float | None = None) -> Metric:
        """Adds a counter whose growth per minute is posted."""
        return self.metric(per_minute(name, label, stacked=stacked, scale=scale))

    def per_second(self, name: str, label: str = "", *, stacked: bool = False, scale: float | None = None) -> Metric:
        """Adds a counter whose growth per second is posted."""
        return self.metric(per_second(name, label, stacked=stacked, scale=scale))

    def delta(self, name: str, label: str = "", *, stacked: bool = False, scale: float | None = None) -> Metric:
        """Adds a counter whose growth since the previous call is posted."""
        return self.metric(delta(name, label, stacked=stacked, scale=scale))

    def per_minute_32(self, name: str, label: str = "", *, stacked: bool = False, scale: float | None = None) -> Metric:
        """Adds a counter that wraps at 2^32, whose growth per minute is posted."""
        return self.metric(per_minute_32(name, label, stacked=stacked, scale=scale))


_ALLOWED = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-_")


def segment(text: object) -> str:
    """A text as one segment of a metric's name: each character that Mackerel does not accept there becomes `_`, and so does an empty text."""
    return "".join(char if char in _ALLOWED else "_" for char in str(text)) or "_"


class Names:
    """The names that samples may have: those of the metrics of some graphs."""

    def __init__(self, graphs: Iterable[Graph]) -> None:
        self.exact: set[str] = set()
        self.patterns: dict[int, list[list[str]]] = {}
        for graph in graphs:
            for metric in graph.metrics:
                pattern = metric.pattern
                if "*" in pattern or "#" in pattern:
                    parts = pattern.split(".")
                    self.patterns.setdefault(len(parts), []).append(parts)
                else:
                    self.exact.add(pattern)

    def has(self, name: str) -> bool:
        if name in self.exact:
            return True
        parts = name.split(".")
        return any(
            all(part == wanted or wanted in ("*", "#") for part, wanted in zip(parts, pattern))
            for pattern in self.patterns.get(len(parts), ())
        )

    def like(self, name: str) -> str:
        """What was probably meant, for a message."""
        patterns = sorted(self.exact) + [".".join(parts) for some in self.patterns.values() for parts in some]
        near = difflib.get_close_matches(name, patterns, 1)
        return f"did you mean `{near[0]}`?" if near else f"they have {', '.join(patterns[:10]) or 'none'}"
