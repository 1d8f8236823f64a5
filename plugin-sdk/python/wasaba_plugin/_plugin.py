"""A plugin: what it is, and the functions that do its work."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta
from typing import Any, TypeVar

from . import _wire
from ._description import REACHES, Graph, Names, Reach, Setting
from ._errors import Mistake
from ._names import refuse_key
from ._report import Document, Report
from ._sample import Problem, Readings, readings, where
from ._settings import Settings

# pytest shows the author's frames, not these.
__tracebackhide__ = True

S = TypeVar("S", bound="Setting[Any]")
F = TypeVar("F", bound=Callable[..., Any])

# The plugin that was made in this process: a component has one.
made: list[Plugin] = []


class Plugin:
    """A plugin. Make one, in the module that `build` is given:

    ```
    plugin = Plugin("queue", "1.0.0", "jobs of the queue", reaches=["http"])
    url = plugin.setting(Setting.url("url", default="http://localhost:7000/count", help="page with the number of jobs"))
    jobs = plugin.graph(Graph("queue.jobs", "Jobs", "integer"))
    waiting = jobs.gauge("waiting", "Waiting")

    @plugin.collect
    def collect(settings):
        yield waiting(int(http.get(settings[url]).text()))
    ```
    """

    def __init__(
        self,
        name: str,
        version: str,
        summary: str,
        *,
        reaches: Iterable[Reach] = (),
        settings: Iterable[Setting[Any]] = (),
        graphs: Iterable[Graph] = (),
        license: str | None = None,
        homepage: str | None = None,
        interval: timedelta | int | None = None,
        timeout: timedelta | int | None = None,
        agent: str | None = None,
        attributes: Mapping[str, str] | None = None,
    ) -> None:
        self.name, self.version, self.summary = name, version, summary
        refuse_key(name, "a plugin's name")
        if isinstance(reaches, str):
            raise Mistake(f'`reaches` is a list: ["{reaches}"]')
        self.reaches = list(reaches)
        for word in self.reaches:
            if word not in REACHES:
                raise Mistake(f"`reaches` has {word!r}; valid: {', '.join(REACHES)}")
        facts = {
            "license": license,
            "homepage": homepage,
            "interval-seconds": _seconds(interval),
            "timeout-seconds": _seconds(timeout),
            "agent": agent,
        }
        self.attributes = {key: value for key, value in facts.items() if value is not None} | dict(attributes or {})
        self.settings: list[Setting[Any]] = []
        self.graphs: list[Graph] = []
        for setting in settings:
            self.setting(setting)
        for graph in graphs:
            self.graph(graph)
        self.functions: dict[str, Callable[..., Any]] = {}
        _wire.authors.add(_wire.caller().f_globals.get("__name__", ""))
        made.append(self)

    def setting(self, setting: S) -> S:
        """Adds a setting and returns it, as a key for `settings[...]`."""
        if not isinstance(setting, Setting):
            raise Mistake(f'a setting is Setting.text("key", ...) or another kind, not {setting!r}')
        if any(other.key == setting.key for other in self.settings):
            raise Mistake(f"the plugin has setting `{setting.key}` twice")
        self.settings.append(setting)
        return setting

    def graph(self, graph: Graph) -> Graph:
        """Adds a graph that every instance of the plugin has, and returns it."""
        if not isinstance(graph, Graph):
            raise Mistake(f'a graph is Graph("name", "label", "unit", ...), not {graph!r}')
        if any(other.name == graph.name for other in self.graphs):
            raise Mistake(f"the plugin has graph `{graph.name}` twice")
        self.graphs.append(graph)
        return graph

    def graphs_by_settings(self, function: F) -> F:
        """Decorates a function from `Settings` to further graphs, for example with a prefix of the operator's."""
        return self._add("graphs", function)

    def collect(self, function: F) -> F:
        """Decorates the function that reads the metrics: it gets `Settings`, and yields or returns samples, pairs of name and value,
        and a `Problem` for each target that failed while others did not."""
        return self._add("metrics", function)

    def check(self, function: F) -> F:
        """Decorates the function that checks: it gets `Settings`, and returns a `Report`, or yields several with names."""
        return self._add("checks", function)

    def metadata(self, function: F) -> F:
        """Decorates the function for metadata: it gets `Settings`, and returns what becomes JSON, or yields several `Document`s, and a
        `Problem` for each target that failed while others did not."""
        return self._add("metadata", function)

    def _add(self, what: str, function: F) -> F:
        if what in self.functions:
            raise Mistake(f"the plugin has two functions for {what}")
        self.functions[what] = function
        return function

    # What the component and the fake host call.

    def does(self) -> list[str]:
        """Which of the contract's exports it has."""
        return [what for what in ("metrics", "checks", "metadata") if what in self.functions]

    def all_graphs(self, settings: Settings) -> list[Graph]:
        """The graphs of an instance."""
        more = self.functions.get("graphs")
        return [*self.graphs, *(more(settings) if more else ())]

    def collected(self, settings: Settings) -> Readings:
        """What `collect` reads, all of it, held against the plugin's own graphs."""
        function = self.functions["metrics"]
        result = readings(function(settings), function)
        names = Names(self.all_graphs(settings))
        for sample in result.samples:
            if not names.has(sample.name):
                raise Mistake(f"no graph of the plugin has the sample `{sample.name}`: {names.like(sample.name)}", sample._frame)
        return result

    def checked(self, settings: Settings) -> list[Report]:
        """What `check` reports."""
        function = self.functions["checks"]
        given = function(settings)
        reports = [given] if isinstance(given, Report) else list(given or ())
        for report in reports:
            if not isinstance(report, Report):
                raise Mistake(f"`{function.__name__}` must give a Report, not {report!r}", where(given, function))
        if not reports:
            raise Mistake(f"`{function.__name__}` gave no Report", where(None, function))
        return reports

    def gathered(self, settings: Settings) -> tuple[list[Document], list[Problem]]:
        """The documents of metadata, and the targets without."""
        function = self.functions["metadata"]
        given = function(settings)
        if given is None:
            raise Mistake(f"`{function.__name__}` returned nothing: return what becomes JSON", where(None, function))
        several = hasattr(given, "gi_frame") or (
            isinstance(given, (list, tuple)) and any(isinstance(one, (Document, Problem)) for one in given)
        )
        documents, problems = [], []
        for one in given if several else [given]:
            if isinstance(one, Problem):
                problems.append(one)
            else:
                document = one if isinstance(one, Document) else Document(one)
                document.text()
                documents.append(document)
        return documents, problems


def _seconds(time: timedelta | int | None) -> str | None:
    if time is None:
        return None
    return str(round(time.total_seconds()) if isinstance(time, timedelta) else int(time))
