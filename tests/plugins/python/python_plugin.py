"""A plugin in Python, written directly against the contract, without an SDK.

Its setting `do` makes it misbehave, so that the tests can check that it is limited like any other plugin.
"""

import socket

from wit_world import exports
from wit_world.imports import http, log
from wit_world.exports import about, metrics


def setting(key, kind, default, help, port_of=None):
    return about.Setting(
        key=key, kind=kind, default=default, required=False, repeatable=False, port_of=port_of, help=help, attributes=[]
    )


class About(exports.About):
    def describe(self):
        return about.Description(
            name="python",
            version="0.1.0",
            summary="the length of a page, in Python",
            settings=[
                setting("host", "host", "localhost", "where the server is"),
                setting("port", "port", "80", "where the server is", port_of="host"),
                setting("do", "text", "nothing", "what to do wrong"),
            ],
            reach=["http"],
            attributes=[],
        )


class Metrics(exports.Metrics):
    def graphs(self, settings):
        metric = metrics.Metric(
            name="bytes", label="Bytes", stacked=False, reading="gauge", scale=None, attributes=[]
        )
        return [metrics.Graph(name="python", label="Python", unit="bytes", metrics=[metric], attributes=[])]

    def collect(self, settings):
        # None of the settings is a secret.
        settings = {key: value.value for key, value in settings}
        value = metrics.Value_Float(float(do(settings["do"], settings)))
        sample = metrics.Sample(name="python.bytes", value=value, unix_seconds=None, host=None, attributes=[])
        return metrics.Readings(samples=[sample], problems=[], attributes=[])


def do(what, settings):
    if what in ("fetch", "fetch-elsewhere"):
        port = settings["port"] if what == "fetch" else 1
        url = f"http://{settings['host']}:{port}/"
        # An error of the capability is passed on as it is.
        return len(http.send(http.Request("GET", url)).body())
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
            log.write(log.Level.INFO, f"line {number}")
    if what == "socket":
        socket.create_connection(("127.0.0.1", int(settings["port"])), timeout=1)
    if what == "file":
        return len(open("/etc/passwd").read())
    return 1
