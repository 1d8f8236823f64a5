"""A plugin that misbehaves on request: its setting `do` says how."""

import sys

from wasaba_plugin import Graph, Plugin, Setting, http, log

plugin = Plugin("naughty", "0.1.0", "misbehaves on request", reaches=["http"])

do = plugin.setting(Setting.text("do", default="nothing", help="what to do wrong"))
url = plugin.setting(Setting.url("url", default="http://localhost/", help="a page with a number"))
token = plugin.setting(Setting.secret("token", help="a secret that must not be shown"))

naughty = plugin.graph(Graph("naughty", "Naughty", "float")).gauge("*", "%1")
large = plugin.graph(Graph("naughty.counted", "Counted", "integer")).delta("large", "Large")


@plugin.collect
def collect(settings):
    what = settings[do]
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
        for number in range(1_000):
            log.info(f"line {number}")
    if what == "wrong-type":
        yield naughty("three", "good")
    if what == "wrong-setting":
        settings.text("uri")
    if what == "wrong-name":
        yield "other.waiting", 1
    if what == "print":
        print("on standard output", settings[token])
        print("on standard error", file=sys.stderr)
    if what == "nan":
        yield "naughty.nan", float("nan")
    if what == "large":
        yield large(int(http.get(settings[url]).text()))
    elif what != "none":
        yield naughty(1, "good")
