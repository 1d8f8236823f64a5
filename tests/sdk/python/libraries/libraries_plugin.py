"""A plugin of libraries that know nothing of it: redis-py and requests, as they are in the registry, over Python's own sockets."""

# The component has what is imported when it is built; these three are imported by the libraries only when they are used.
import encodings.idna  # noqa: F401
import netrc  # noqa: F401
import secrets  # noqa: F401
import socket

# urllib3 opens a socket while it is imported if there may be IPv6. That is when the component is built, and none of it is left when it runs.
socket.has_ipv6 = False

import redis
import requests
from wasaba_plugin import Graph, Plugin, Setting

plugin = Plugin("libraries", "0.1.0", "what redis-py and requests see of their servers", reaches=["tcp"])

# Of the kind `endpoint`, which grants raw TCP: these libraries speak HTTP themselves.
store = plugin.setting(Setting.endpoint("redis", default="localhost:6379", help="a Redis server"))
web = plugin.setting(Setting.endpoint("web", default="localhost:80", help="a server of HTTP"))

graph = plugin.graph(Graph("libraries", "Libraries", "integer"))
value = graph.gauge("redis", "Value of `answer` in Redis")
status = graph.gauge("status", "Status of the page")
length = graph.gauge("length", "Length of the page")


@plugin.collect
def collect(settings):
    server = settings[store]
    with redis.Redis(host=server.host, port=server.port, protocol=2, driver_info=None, socket_timeout=3) as client:
        yield value(int(client.get("answer")))
    server = settings[web]
    page = requests.get(f"http://{server.host}:{server.port}/", timeout=3)
    yield status(page.status_code)
    yield length(len(page.content))
