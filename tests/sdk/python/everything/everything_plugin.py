"""A plugin that uses everything in the contract once, as tests/plugins/everything does in Rust."""

from datetime import timedelta

from wasaba_plugin import (
    Document,
    Failed,
    Graph,
    Misconfigured,
    Plugin,
    Problem,
    Report,
    Sample,
    Setting,
    call,
    crypto,
    files,
    http,
    kv,
    log,
    tcp,
)

plugin = Plugin(
    "everything",
    "0.1.0",
    "uses everything in the contract once",
    reaches=["http", "tcp", "unix", "file"],
    license="Apache-2.0",
    homepage="https://example.com/everything",
    interval=60,
    timeout=10,
    agent="0.1.0",
)

url = plugin.setting(Setting.url("url", required=True, help="a page to get"))
host = plugin.setting(Setting.host("host", default="localhost", help="an echo server"))
port = plugin.setting(Setting.port("port", of=host, default=7, help="an echo server"))
endpoint = plugin.setting(Setting.endpoint("endpoint", repeatable=True, help="servers that are not there"))
socket = plugin.setting(Setting.unix_socket("socket", required=True, help="another echo server"))
file = plugin.setting(Setting.file("file", required=True, help="a file to read"))
text = plugin.setting(Setting.text("text", default="text", repeatable=True, help="any text"))
token = plugin.setting(Setting.secret("token", help="a secret"))
integer = plugin.setting(Setting.integer("integer", default=-1, help="a whole number"))
number = plugin.setting(Setting.number("number", default=0.5, help="a number"))
boolean = plugin.setting(Setting.boolean("boolean", default=True, help="yes or no"))
patience = plugin.setting(Setting.duration("patience", default="5s", help="how long to wait"))
plugin.setting(Setting.tls_skip_verify(help="accept any certificate"))
sslmode = plugin.setting(
    Setting.tls_mode("sslmode", default="verify-full", aliases={"verify-full": "full"}, help="how TLS is used")
)

done = plugin.graph(Graph("everything.done", "Everything", "integer"))
done_http = done.gauge("http", "Status of the page")
done_tcp = done.gauge("tcp", "Echoed bytes", stacked=True)
done_unix = done.gauge("unix", "Echoed bytes", stacked=True)
done_file = done.gauge("file", "Length of the file")
done_calls = done.gauge("calls", "Calls so far")
done_then = done.gauge("then", "A minute ago")

rates = plugin.graph(Graph("everything.rates.#", "Rates", "bytes-per-second"))
per_minute = rates.per_minute("minute", "Per minute")
wraps = rates.per_minute_32("wraps", "Per minute")
delta = rates.delta("delta", "Since the last call")
per_second = rates.per_second("*", "Per second", scale=8)


@plugin.collect
def collect(settings):
    log.debug("debug")
    log.info("info")
    log.warning("warning")
    secret = settings[token]
    request = http.get(settings[url]).header("accept", "*/*")
    request.header_secret("x-token", secret, prefix="token ").basic_auth("me", secret).header_lines(secret)
    if not request.has_header("Accept"):
        raise Failed("the request has no header")
    page = request.follow(1).send()
    stream = tcp.connect(settings[host], settings[port])
    tcp.connect(settings[host], settings[port], timeout=5).close()
    unix = tcp.connect_unix(settings[socket])
    size = file_size(settings[file])
    calls = min((kv.get("calls") or b"\0")[0] + 1, 255)
    kv.set("calls", bytes([calls]))
    kv.set("gone", "soon")
    kv.delete("gone")
    kv.set("calls.last", bytes([calls]), lasts=60)
    if kv.keys("c") != ["calls", "calls.last"]:
        raise Failed(f"unexpected keys: {kv.keys()}")
    minute = call.minute()
    if (
        call.remaining() > timedelta(seconds=60)
        or minute.second
        or call.limit("samples") != 1_000
        or not call.agent_version()
        or not call.has("tcp")
        or call.has("everything")
    ):
        raise Failed("the call does not know what it is")
    # What is repeatable, a number or a duration comes in its type.
    if (settings[integer], settings[number], settings[boolean], settings[patience]) != (-1, 0.5, True, timedelta(seconds=5)):
        raise Failed("a setting is not what it was by default")
    yield done_http(page.status)
    yield done_tcp(echoed(stream, settings))
    yield done_unix(echoed(unix, settings))
    yield done_file(size)
    yield done_calls(calls).label("kind", "calls")
    yield Sample("everything.done.then", calls, at=minute - timedelta(minutes=1))
    yield per_minute(calls, "a")
    yield per_second(calls, "a", "second")
    yield wraps(calls, "a")
    yield "everything.rates.a.delta", calls
    for peer in settings[endpoint]:
        try:
            tcp.connect(*peer)
        except Exception as error:
            yield Problem(peer, error)


def file_size(path):
    """The size of the file, which is read whole and in parts."""
    whole, part = files.read(path, 1 << 20), files.open(path)
    stat = part.stat()
    if stat.size != len(whole) or stat.id == 0 or whole[:1] != part.read_at(0, 1):
        raise Failed("a part of the file differs from the whole")
    return stat.size


def echoed(connection, settings):
    """How many bytes an echo server sends back."""
    connection.set_timeout(5)
    if not connection.is_local():
        raise Failed("the echo server is not on this machine")
    connection.send(b"everything")
    if settings[token]:
        connection.send_secret(b"<", settings[token], b">")
    connection.finish()
    return sum(map(len, iter(lambda: connection.receive(4), b"")))


@plugin.check
def check(settings):
    status = http.head(settings[url]).body(b"").send().status
    if status == 200:
        yield Report.ok("the page is there")
    else:
        yield (Report.warning if status < 500 else Report.critical)(f"the page answers {status}")
    yield Report.unknown("nothing is known of it", name="else")


@plugin.metadata
def about(settings):
    # Never called but by the tests: it links the functions.
    if settings.get(text) == "never":
        secret = settings[token]
        if secret is None:
            raise Misconfigured("`token` is not set")
        connection = tcp.connect(settings[host], settings[port])
        connection.start_tls(server_name="localhost", alpn=["h2"])
        proof = crypto.scram_sha256(secret, b"salt", 4_096, "")
        md5 = crypto.postgres_md5(secret, "me", proof.server_signature)
        return secret.reveal() + md5
    return [Document({"texts": len(settings[text])}), Document([], "all-more")]
