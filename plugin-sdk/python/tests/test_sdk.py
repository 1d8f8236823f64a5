"""Tests of the SDK itself: `python -m pytest` in plugin-sdk/python."""

import logging
import math
import subprocess
import sys
import traceback
from datetime import timedelta
from decimal import Decimal
from pathlib import Path

import pytest

from wasaba_plugin import (
    Busy,
    Denied,
    Document,
    Error,
    Failed,
    Graph,
    Misconfigured,
    Mistake,
    Plugin,
    Problem,
    Report,
    Sample,
    Setting,
    Timeout,
    Unauthorized,
    Unreachable,
    call,
    files,
    gauge,
    growth,
    http,
    kv,
    log,
    segment,
    tcp,
    up,
)
from wasaba_plugin import _component, _names
from wasaba_plugin._errors import KINDS, from_wire, told
from wasaba_plugin._sample import number
from wasaba_plugin.testing import Case, Host, _error


SDK = Path(__file__).parents[1]


def plugin_of(collect=None, **more):
    """A plugin with one gauge for every name, and a wildcard."""
    plugin = Plugin("q", "1", "", reaches=["http", "tcp", "unix", "file"], **more)
    plugin.graph(Graph("q", "Q", "float", gauge("*", "%1")))
    plugin.graph(Graph("q.of.#", "Q", "float", gauge("waiting")))
    if collect is not None:
        plugin.collect(collect)
    return plugin


def test_each_error_is_the_same_after_a_way_through_the_contract():
    for kind in [*KINDS.values(), Busy]:
        error = kind("why", 90) if kind is Busy else kind("why")
        word, message, wait, _ = told(error)
        wire = _error(word, message)
        wire.value.retry_after_ms = wait
        back = from_wire(wire.value)
        assert type(back) is kind
        assert back.message == "why"
    assert type(from_wire(_error("tired", "why").value)) is Failed


def test_an_error_of_a_capability_is_one_that_pythons_own_code_expects():
    assert issubclass(Unreachable, ConnectionError) and issubclass(Timeout, TimeoutError) and issubclass(Denied, PermissionError)
    assert str(Unreachable("db: refused")) == "db: refused"


def test_an_exception_is_told_with_type_text_and_the_authors_line():
    def collect(settings):
        yield "q.a", {}["jobs"]

    with pytest.raises(KeyError) as caught:
        Host().collect(plugin_of(collect))
    kind, message, _, _ = told(caught.value)
    line = collect.__code__.co_firstlineno + 1
    assert (kind, message) == ("failed", f"KeyError: 'jobs' (test_sdk.py:{line})")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (3, 3),
        ((1 << 64) - 1, 18446744073709551615),
        (-1, -1.0),
        (1 << 64, 2.0**64),
        (True, 1),
        (0.5, 0.5),
        (Decimal("1.5"), 1.5),
        (timedelta(minutes=1), 60.0),
    ],
)
def test_numbers_are_values_and_whole_ones_stay_whole(value, expected):
    result = number("a", value)
    assert result == expected and type(result) is type(expected)


@pytest.mark.parametrize("value", ["3", None, math.nan, math.inf, [1], {}, b"1"])
def test_what_is_no_number_is_no_value_and_names_the_sample(value):
    with pytest.raises(Mistake, match="q.waiting"):
        Sample("q.waiting", value)


def test_collect_may_yield_or_return_samples_pairs_names_and_problems():
    def yields(settings):
        yield Sample("q.a", 1)
        yield "q.b", 2
        yield Problem("db2:5432", Unreachable("refused"))

    read = Host().collect(plugin_of(yields))
    assert read.values() == {"q.a": 1, "q.b": 2}
    assert [problem.target for problem in read.problems] == ["db2:5432"]
    assert Host().collect(plugin_of(lambda settings: {"q.a": 1})).values() == {"q.a": 1}
    assert Host().collect(plugin_of(lambda settings: [("q.a", 1)])).values() == {"q.a": 1}
    assert Host().collect(plugin_of(lambda settings: [])).values() == {}


def test_what_collect_gives_in_place_of_samples_is_told_with_the_line_of_its_yield():
    def collect(settings):
        yield "q.a", 1
        yield "q.b"

    with pytest.raises(Mistake) as caught:
        Host().collect(plugin_of(collect))
    assert told(caught.value)[1].endswith(f"(test_sdk.py:{collect.__code__.co_firstlineno + 2})")
    with pytest.raises(Mistake, match="returned nothing"):
        Host().collect(plugin_of(lambda settings: None))


def test_a_sample_that_no_graph_has_is_a_mistake_with_what_was_meant():
    def collect(settings):
        yield "q.of.a.watiing", 1

    with pytest.raises(Mistake, match=r"`q.of.a.watiing`: did you mean `q.of.#.waiting`"):
        Host().collect(plugin_of(collect))


def test_a_metric_with_wildcards_needs_a_text_for_each():
    metric = Graph("q.of.#", "Q", "integer").gauge("*")
    assert metric(1, "a.b/ü", "c").name == "q.of.a_b__.c"
    with pytest.raises(Mistake, match="needs a text"):
        metric(1, "a")
    with pytest.raises(Mistake, match="no wildcard"):
        metric(1, "a", "b", "c")


def test_a_segment_has_no_character_that_mackerel_refuses():
    assert segment("config|get my.db-1/日") == "config_get_my_db-1__"


def test_a_graph_without_a_unit_or_with_a_scale_of_zero_is_refused():
    with pytest.raises(Mistake, match="unit"):
        Graph("q", "Q", "")
    for scale in (0, math.nan, math.inf):
        with pytest.raises(Mistake, match="scale"):
            gauge("a", scale=scale)
    assert gauge("a").scale is None


def test_a_key_that_no_setting_has_is_a_mistake_and_never_misconfigured():
    plugin = plugin_of(lambda settings: {"q.a": len(settings.text("uri"))})
    plugin.setting(Setting.url("url", default="http://localhost/"))
    with pytest.raises(Mistake, match="`uri`: did you mean `url`"):
        Host().collect(plugin)
    with pytest.raises(Mistake, match="`uri`"):
        Host().settings(plugin, {})["uri"]


def test_a_setting_has_the_type_of_its_kind_and_one_that_is_not_set_is_none():
    plugin = plugin_of()
    kinds = {
        plugin.setting(Setting.integer("i", default=-1)): -1,
        plugin.setting(Setting.number("n", default=0.5)): 0.5,
        plugin.setting(Setting.boolean("b", default=True)): True,
        plugin.setting(Setting.duration("d", default=timedelta(minutes=2))): timedelta(minutes=2),
        plugin.setting(Setting.endpoint("e", default="[::1]:7")): ("[::1]", 7),
        plugin.setting(Setting.port("p", default=7)): 7,
        plugin.setting(Setting.text("t", repeatable=True, default="x")): ["x"],
        plugin.setting(Setting.text("none")): None,
        plugin.setting(Setting.secret("secret")): None,
    }
    settings = Host().settings(plugin, {})
    assert {setting: settings[setting] for setting in kinds} == kinds
    with pytest.raises(Misconfigured, match="`none` is not set"):
        settings.text("none")


def test_a_repeated_setting_keeps_the_operators_order_and_get_returns_its_last_value():
    plugin = plugin_of()
    plugin.setting(Setting.text("header", repeatable=True))
    settings = Host().settings(plugin, {"header": ["a: 1", "b: 2"]})
    assert settings.all("header") == ["a: 1", "b: 2"]
    assert settings.get("header") == "b: 2"


def test_an_unknown_value_suggests_the_one_that_was_meant():
    plugin = plugin_of()
    plugin.setting(Setting.text("extra", repeatable=True))
    settings = Host().settings(plugin, {"extra": "netwrok"})
    expected = 'unknown value "netwrok" in `extra`, did you mean "network"\\? valid: memory, network'
    with pytest.raises(Misconfigured, match=expected):
        settings.some_of("extra", ["memory", "network"])


def test_a_secret_that_is_used_as_a_text_is_a_mistake_that_says_what_to_use():
    plugin = plugin_of()
    token = plugin.setting(Setting.secret("token"))
    settings = Host().settings(plugin, {"token": "s3cret"})
    for read in (settings.text, settings.get, settings.all):
        with pytest.raises(Mistake, match=r"`token` is a secret, not a text: `settings\[...\]` is its handle; give it to `header_secret`"):
            read(token)
    secret = settings[token]
    for use in (
        lambda: "Bearer " + secret,
        lambda: secret + "x",
        lambda: secret.encode(),
        lambda: http.get("http://localhost/").header("authorization", f"Bearer {secret}"),
        lambda: http.get(f"http://localhost/?key={secret}"),
        lambda: http.post("http://localhost/").json_body({"key": str(secret)}),
    ):
        with pytest.raises(Mistake, match="secret.*`header_secret`, `bearer`"):
            use()
    assert not hasattr(secret, "other")


def test_a_lack_of_memory_is_told_with_the_authors_line():
    def collect(settings):
        raise MemoryError

    line = collect.__code__.co_firstlineno + 1
    plugin = plugin_of(collect)
    with Host() as host, pytest.raises(MemoryError) as told_so:
        _component.answer(lambda: plugin.collected(host.settings(plugin, {})))
    assert traceback.format_exception_only(told_so.value) == [f"MemoryError (test_sdk.py:{line})\n"]


def test_names_that_an_operator_chose_are_left_to_the_agent():
    with _names.unchecked():
        assert Graph("a b", "A", "float").gauge("c d").pattern == "a b.c d"
    with pytest.raises(Mistake):
        Graph("a b", "A", "float")


def test_a_failed_test_shows_the_authors_frames_only(tmp_path):
    (tmp_path / "test_q.py").write_text(
        "from wasaba_plugin import Plugin, Graph\n"
        "from wasaba_plugin.testing import Host\n"
        "plugin = Plugin('q', '1', '')\n"
        "@plugin.collect\n"
        "def collect(settings):\n    yield 'q.a', {}['b']\n"
        "def test_q():\n    Host().collect(plugin)\n"
    )
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    said = subprocess.run(command, capture_output=True, text=True, cwd=SDK).stdout
    assert "test_q.py:6: KeyError" in said and "wasaba_plugin/" not in said, said


def test_printing_a_secret_shows_nothing_of_it_and_its_text_is_denied_unless_revealed():
    plugin = plugin_of()
    token = plugin.setting(Setting.secret("token"))
    secret = Host().settings(plugin, {"token": "s3cret"})[token]
    assert "s3cret" not in f"{secret} {secret!r} {[secret]} {secret.length}"
    with pytest.raises(Denied):
        secret.reveal()
    assert Host(reveal=True).settings(plugin, {"token": "s3cret"})[token].reveal() == "s3cret"
    assert Host().settings(plugin, {"token": ""})[token] is None


def getter(work):
    """A plugin with the setting `url` whose function gets the request."""
    plugin = plugin_of()
    url = plugin.setting(Setting.url("url", default="http://localhost/page?key=private"))
    plugin.collect(lambda settings: {"q.a": work(http.get(settings[url]))})
    return plugin, "http://localhost/page?key=private"


@pytest.mark.parametrize(("status", "kind"), [(500, Failed), (404, Failed), (302, Failed), (401, Unauthorized)])
def test_an_answer_that_is_not_2xx_is_an_error_that_names_the_page_but_not_its_query(status, kind):
    plugin, url = getter(lambda request: request.json())
    with pytest.raises(kind) as caught:
        Host().answers(url, "{}", status=status).collect(plugin)
    assert str(caught.value) == f"http://localhost/page answers with status {status}"


def test_a_server_that_says_when_to_come_again_is_busy():
    plugin, url = getter(lambda request: request.json())
    with pytest.raises(Busy) as caught:
        Host().answers(url, status=429, headers={"Retry-After": "90"}).collect(plugin)
    assert told(caught.value)[2] == 90_000


def test_what_is_not_json_or_not_text_is_an_error_that_names_the_page():
    plugin, url = getter(lambda request: request.json())
    with pytest.raises(Failed, match="http://localhost/page is not JSON"):
        Host().answers(url, "<html>").collect(plugin)
    plugin, url = getter(lambda request: request.text())
    with pytest.raises(Failed, match="http://localhost/page is not UTF-8"):
        Host().answers(url, b"\xff").collect(plugin)


def test_who_could_not_be_reached_is_named_once():
    plugin, url = getter(lambda request: request.json())
    for why in ("connection refused", "http://localhost: connection refused"):
        with pytest.raises(Unreachable) as caught:
            Host().answers(url, unreachable=why).collect(plugin)
        assert str(caught.value) == "http://localhost: connection refused"


def test_what_was_meant_for_one_server_is_not_sent_to_another():
    plugin = plugin_of()
    token = plugin.setting(Setting.secret("token"))
    sent = []

    def collect(settings):
        request = http.get("http://a/").header("accept", "x").header("Cookie", "x").bearer(settings[token]).follow(1)
        request.send()
        sent.append(request._redirected("http://b/")._built().headers)
        sent.append(request._redirected("http://a/x")._built().headers)
        return {}

    plugin.collect(collect)
    host = Host(allow=["a:80", "b:80"]).answers("http://a/", status=302, headers={"location": "http://b/"}).answers("http://b/")
    host.collect(plugin, token="s3cret")
    assert sent[0] == {"accept": "x"}
    assert sent[1] == {"accept": "x", "cookie": "x", "authorization": "Bearer s3cret"}


def test_a_header_without_a_value_is_not_sent():
    plugin, url = getter(lambda r: r.header("a", None).header_secret("b", None).bearer(None).has_header("authorization"))
    assert Host().collect(plugin)["q.a"] == 0


def test_what_is_not_granted_is_denied():
    for work in (
        lambda: http.get("http://elsewhere/").send(),
        lambda: tcp.connect("localhost", 7),
        lambda: tcp.connect_unix("/run/x.sock"),
        lambda: files.read("/etc/passwd", 100),
    ):
        with pytest.raises(Denied):
            Host().collect(plugin_of(lambda settings, work=work: work()))


def test_what_the_plugin_does_not_say_that_it_reaches_is_denied():
    plugin = Plugin("q", "1", "")
    plugin.collect(lambda settings: http.get("http://a/").send())
    with pytest.raises(Denied, match="reaches"):
        Host(allow=["a:80"]).collect(plugin)


def test_a_connection_is_a_file():
    def collect(settings):
        with tcp.connect("db", 1) as connection:
            file = connection.makefile()
            file.write(b"PI")
            file.write(b"NG\r\n")
            file.flush()
            return {"q.a": len(file.readline()), "q.b": len(file.read())}

    host = Host(allow=["db:1"]).talks("db:1", {"expect": "PING\r\n"}, {"send": "PONG\r\nrest"})
    assert host.collect(plugin_of(collect)).values() == {"q.a": 6, "q.b": 4}
    assert host.script.deviations() == []


def test_a_conversation_that_deviates_is_told():
    def collect(settings):
        tcp.connect("db", 1).send(b"QUIT")

    host = Host(allow=["db:1"]).talks("db:1", {"expect": "PING"}).answers("http://a/").has_file("/a", "")
    with pytest.raises(Unreachable, match='expects "PING", the plugin wrote "QUIT"'):
        host.collect(plugin_of(collect))
    assert host.script.deviations()[1:] == ["the response to GET http://a/ was not used", "the file `/a` was not read"]


def test_a_file_is_read_whole_in_parts_and_by_lines():
    def collect(settings):
        with files.open("/a") as file:
            assert file.stat().size == 8 and file.read_at(4, 100) == b"two\n"
            assert [line for line in file.buffered()] == [b"one\n", b"two\n"]
        return {"q.a": len(files.read("/a", 8))}

    assert Host(allow=["file:/a"]).has_file("/a", "one\ntwo\n").collect(plugin_of(collect))["q.a"] == 8


def test_what_is_kept_survives_a_call_that_succeeds_and_no_other():
    host = Host()

    def collect(settings):
        kv.set("a", (kv.get("a") or b"") + b"x")
        kv.set("b", "gone", lasts=60)
        if len(kv.get("a")) == 2:
            raise Failed("no")
        return {"q.a": len(kv.keys())}

    plugin = plugin_of(collect)
    assert host.collect(plugin)["q.a"] == 2
    host.now += 60
    with pytest.raises(Failed):
        host.collect(plugin)
    assert host.kept["a"] == b"x"
    with host:
        assert kv.keys() == ["a"]


def test_there_is_no_growth_if_a_counter_was_reset_or_the_counters_are_others():
    with Host():
        assert growth("k", 5, 7) is None
        assert growth("k", 6, 7) == (1, 0)
        assert growth("k", 6, 6) is None
        assert growth("k", 6, 6, 6) is None


def test_up_is_zero_alone_while_the_target_is_down_and_logs_only_changes():
    is_up = Graph("q", "Q", "integer").gauge("up")

    def down():
        yield "q.a", 1
        raise Unreachable("refused")

    with Host() as host:
        assert up(is_up, down()) == [Sample("q.up", 0)]
        assert up(is_up, down()) == [Sample("q.up", 0)]
        assert up(is_up, [("q.a", 1)]) == [("q.a", 1), Sample("q.up", 1)]
        assert host.logged == [("warning", "the target is down: refused"), ("info", "the target is up again")]
        with pytest.raises(Misconfigured):
            up(is_up, (_ for _ in [1] if (_ for _ in ()).throw(Misconfigured("fix it"))))


def test_logging_reaches_the_agents_log():
    logger = logging.getLogger("of the test")
    handler = log.Handler()
    logger.addHandler(handler)
    with Host() as host:
        logger.warning("%d lines", 3)
        logger.error("bad")
        log.warning_daily("topic", "again")
        log.warning_daily("topic", "again")
    logger.removeHandler(handler)
    assert host.logged == [("warning", "3 lines"), ("error", "bad"), ("warning", "again")]


def test_without_a_host_a_capability_says_how_to_test():
    with pytest.raises(RuntimeError, match="wasaba_plugin.testing"):
        call.remaining()


def test_a_check_may_have_several_reports_and_must_have_one():
    plugin = Plugin("q", "1", "")
    plugin.check(lambda settings: [Report.ok("fine"), Report.critical("bad", name="disk")])
    assert [report.status for report in Host().check(plugin)] == ["ok", "critical"]
    empty = Plugin("q", "1", "")
    empty.check(lambda settings: [])
    with pytest.raises(Mistake, match="no Report"):
        Host().check(empty)


def test_metadata_is_one_value_or_several_documents():
    for given, expected in (
        ({"a": 1}, [("", '{"a": 1}')]),
        ([1, 2], [("", "[1, 2]")]),
        ([Document("日"), Document([], "q-more")], [("", '"日"'), ("q-more", "[]")]),
    ):
        plugin = Plugin("q", "1", "")
        plugin.metadata(lambda settings, given=given: given)
        documents, _ = Host().metadata(plugin)
        assert [(document.namespace, document.text()) for document in documents] == expected
    plugin = Plugin("q", "1", "")
    plugin.metadata(lambda settings: {"a": object()})
    with pytest.raises(Mistake, match="cannot be JSON"):
        Host().metadata(plugin)


def test_every_error_of_the_sdk_is_an_error():
    assert all(issubclass(kind, Error) for kind in [*KINDS.values(), Busy, Mistake])


def test_a_case_holds_the_log_and_a_file_that_cannot_be_read_against_what_it_expects(tmp_path):
    plugin = Plugin("q", "1", "", reaches=["file"])
    path = plugin.setting(Setting.file("path", required=True))

    @plugin.collect
    def collect(settings):
        log.warning("long")
        log.info("more")
        yield "q.bytes", len(files.read(settings[path], 9))

    plugin.graph(Graph("q", "Q", "bytes")).gauge("bytes")
    table = {
        "name": "x",
        "settings": {"path": "/a"},
        "files": {"/a": {"unreadable": "Permission denied"}},
        "error": "failed",
        "says": "cannot read `/a`: Permission denied",
    }
    Case(tmp_path / "tests.toml", {**table, "log": ["warning: long", "more"]}).run(plugin)
    with pytest.raises(AssertionError) as differences:
        Case(tmp_path / "tests.toml", {**table, "log": ["debug: long"]}).run(plugin)
    text = str(differences.value)
    assert "the log has 'warning: long', not one with 'debug: long'" in text and "unexpected in the log: 'info: more'" in text
    with pytest.raises(AssertionError, match="missing in the log: 'third'"):
        Case(tmp_path / "tests.toml", {**table, "log": ["long", "more", "third"]}).run(plugin)
