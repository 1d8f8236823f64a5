"""The exports of the component, between the contract's types and the SDK's. Only `build` imports it, inside the component."""

from __future__ import annotations

import sys
import traceback
from typing import Any, Callable

from . import _names, _wire
from ._description import Graph
from ._errors import told
from ._plugin import Plugin, made
from ._sample import Problem
from ._secret import Secret
from ._settings import Settings

types = _wire.interface("types")
about, metrics, checks, metadata = (_wire.exported(name) for name in ("about", "metrics", "checks", "metadata"))


def plugin() -> Plugin:
    return made[-1]


def settings(wire: list[tuple[str, Any]]) -> Settings:
    pairs = [(key, Secret(value.value) if isinstance(value, types.SettingValue_Secret) else value.value) for key, value in wire]
    return Settings(plugin().settings, pairs)


def error(error: BaseException) -> Any:
    kind, message, wait, attributes = told(error)
    return types.Error(kind=kind, message=message, retry_after_ms=wait, attributes=list(attributes.items()))


def problem(problem: Problem) -> Any:
    return types.Problem(target=problem.target, error=error(problem.error), attributes=[])


def answer(work: Callable[[], Any]) -> Any:
    """What an export returns: an exception that reaches it is an error of the contract."""
    try:
        return work()
    except MemoryError as exhausted:
        place = _wire.place_in(exhausted.__traceback__)
        # What the plugin's frames hold is freed: the message needs some memory, too.
        exhausted.__traceback__ = None
    except Exception as exception:
        if isinstance(exception, _wire.Err):
            raise
        traceback.print_exc(file=sys.stderr)
        raise _wire.Err(error(exception)) from None
    # Not an error of the contract: if it was the operator's limit, the agent says so, else it shows the last line of standard error.
    raise out_of_memory(place)


def out_of_memory(place: str | None) -> MemoryError:
    """Printed as `MemoryError (queue_plugin.py:12)`."""
    kind = type(f"MemoryError ({place})" if place else "MemoryError", (MemoryError,), {"__module__": "builtins"})
    error: MemoryError = kind()
    return error


class About:
    def describe(self) -> Any:
        own = plugin()
        return about.Description(
            name=own.name,
            version=own.version,
            summary=own.summary,
            settings=[
                about.Setting(
                    key=setting.key,
                    kind=setting.kind,
                    default=setting.default,
                    required=setting.required,
                    repeatable=setting.repeatable,
                    port_of=setting.port_of,
                    help=setting.help,
                    attributes=aliases(setting.aliases),
                )
                for setting in own.settings
            ],
            reach=list(own.reaches),
            attributes=list(own.attributes.items()),
        )


def aliases(words: dict[str, str]) -> list[tuple[str, str]]:
    return [("aliases", " ".join(f"{word}={meaning}" for word, meaning in words.items()))] if words else []


class Metrics:
    def graphs(self, wire: Any) -> Any:
        # A failure here would be a crash: names that the operator's settings make invalid are the agent's to refuse.
        with _names.unchecked():
            return [graph(one) for one in plugin().all_graphs(settings(wire))]

    def collect(self, wire: Any) -> Any:
        return answer(lambda: self._collect(wire))

    def _collect(self, wire: Any) -> Any:
        result = plugin().collected(settings(wire))
        samples = [
            metrics.Sample(
                name=sample.name,
                value=metrics.Value_Unsigned(sample.value)
                if isinstance(sample.value, int)
                else metrics.Value_Float(sample.value),
                unix_seconds=sample.unix_seconds,
                host=sample.host,
                attributes=list(sample.labels.items()),
            )
            for sample in result.samples
        ]
        return metrics.Readings(samples=samples, problems=[problem(one) for one in result.problems], attributes=[])


def graph(graph: Graph) -> Any:
    return metrics.Graph(
        name=graph.name,
        label=graph.label,
        unit=graph.unit,
        metrics=[
            metrics.Metric(
                name=metric.name,
                label=metric.label,
                stacked=metric.stacked,
                reading=metric.reading,
                scale=metric.scale,
                attributes=[],
            )
            for metric in graph.metrics
        ],
        attributes=[],
    )


class Checks:
    def check(self, wire: Any) -> Any:
        return answer(lambda: self._check(wire))

    def _check(self, wire: Any) -> Any:
        reports = [
            checks.Report(
                name=report.name, status=checks.Status[report.status.upper()], message=report.message, attributes=[]
            )
            for report in plugin().checked(settings(wire))
        ]
        return checks.CheckResults(reports=reports, attributes=[])


class Metadata:
    def gather(self, wire: Any) -> Any:
        return answer(lambda: self._gather(wire))

    def _gather(self, wire: Any) -> Any:
        documents, problems = plugin().gathered(settings(wire))
        return metadata.MetadataResults(
            documents=[
                metadata.Document(namespace=document.namespace, json=document.text(), attributes=[])
                for document in documents
            ],
            problems=[problem(one) for one in problems],
            attributes=[],
        )
