"""A plugin in Python, written directly against the contract, without an SDK.

Its setting `do` makes it misbehave, so that the tests can check that it is limited like any other plugin.
"""

import socket

from wit_world import exports
from wit_world.imports import http, log, types
from wit_world.exports import metrics, plugin
from componentize_py_types import Err, Ok


def setting(key, kind, default, help):
    return plugin.Setting(key=key, kind=kind, default=default, required=False, repeatable=False, help=help)


class Plugin(exports.Plugin):
    def describe(self):
        kind = plugin.SettingKind
        return plugin.Description(
            name="python",
            version="0.1.0",
            summary="the length of a page, in Python",
            settings=[
                setting("host", kind.HOST, "localhost", "where the server is"),
                setting("port", kind.PORT, "80", "where the server is"),
                setting("do", kind.TEXT, "nothing", "what to do wrong"),
            ],
            attributes=[],
        )


class Metrics(exports.Metrics):
    def graphs(self, settings):
        metric = metrics.Metric(name="bytes", label="Bytes", stacked=False, reading=metrics.Reading.GAUGE, scale=1.0)
        return [metrics.Graph(name="python", label="Python", unit=metrics.Unit.BYTES, metrics=[metric], attributes=[])]

    def collect(self, settings):
        settings = dict(settings)
        return [metrics.Sample(name="python.bytes", value=float(do(settings["do"], settings)))]


def do(what, settings):
    if what in ("fetch", "fetch-elsewhere"):
        port = settings["port"] if what == "fetch" else 1
        url = f"http://{settings['host']}:{port}/"
        try:
            return len(http.fetch(http.Request(method="GET", url=url, headers=[], body=None)).body)
        except Err as error:
            raise Err(as_own(error.value))
    if what == "loop":
        while True:
            pass
    if what == "memory":
        hoard = []
        while True:
            hoard.append(bytearray(1 << 20))
    if what == "raise":
        raise RuntimeError("on purpose")
    if what == "flood":
        for number in range(1000):
            log.log(log.Level.INFO, f"line {number}")
    if what == "socket":
        socket.create_connection(("127.0.0.1", int(settings["port"])), timeout=1)
    if what == "file":
        return len(open("/etc/passwd").read())
    return 1


def as_own(error):
    """Convert an error of `http` to the plugin's own."""
    if isinstance(error, http.Error_Denied):
        return types.Error_Denied(error.value)
    if isinstance(error, http.Error_Unreachable):
        return types.Error_Unreachable(error.value)
    return types.Error_Failed(error.value)
