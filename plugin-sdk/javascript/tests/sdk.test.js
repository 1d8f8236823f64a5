// Tests of the SDK itself: `npm test` in plugin-sdk/javascript.

import assert from "node:assert/strict";
import test from "node:test";

import {
    Busy,
    Denied,
    Document,
    Failed,
    Graph,
    Misconfigured,
    Mistake,
    Plugin,
    Problem,
    Report,
    Sample,
    Setting,
    Unauthorized,
    Unreachable,
    files,
    gauge,
    growth,
    http,
    kv,
    log,
    segment,
    tcp,
    up,
    warningDaily,
} from "../index.js";
import { KINDS, fromWire, told } from "../lib/errors.js";
import { Case, Host } from "../lib/testing.js";

const graphs = [new Graph("q", "Q", "float", { "*": gauge() }), new Graph("q.of.#", "Q", "float", { waiting: gauge() })];

/** A plugin with one gauge for every name, and a wildcard. */
function pluginOf(collect, more = {}) {
    return new Plugin({ name: "q", version: "1", summary: "", reaches: ["http", "tcp", "unix", "file"], graphs, collect, ...more });
}

test("each error is the same after a way through the contract", () => {
    for (const Kind of [...KINDS, Busy]) {
        const { kind, message, waitMs, attributes } = told(Kind === Busy ? new Busy("why", 90_000) : new Kind("why"));
        const back = fromWire({ kind, message, retryAfterMs: waitMs, attributes });
        assert.equal(back.constructor, Kind);
        assert.equal(back.message, "why");
    }
    assert.equal(fromWire({ kind: "tired", message: "why", attributes: [] }).constructor, Failed);
});

test("an error that reaches the top is reported with name, text and the author's line", () => {
    const plugin = pluginOf(() => {
        throw new RangeError("on purpose");
    });
    try {
        new Host().collect(plugin);
        assert.fail("it did not throw");
    } catch (error) {
        assert.match(told(error).message, /^RangeError: on purpose \(sdk\.test\.js:\d+\)$/);
        assert.equal(told(error).kind, "failed");
    }
    assert.match(told("a text").message, /"a text", which is not an Error/);
    assert.match(told(undefined).message, /undefined, which is not an Error/);
});

test("numbers, big integers and booleans are values, and nothing else is", () => {
    for (const [value, expected] of [[3, 3], [0.5, 0.5], [-1, -1], [true, 1], [18446744073709551615n, 18446744073709551615n], [-1n, -1], [1n << 64n, 2 ** 64]]) {
        assert.equal(new Sample("q.a", value).value, expected);
    }
    for (const value of ["3", undefined, null, Number.NaN, Infinity, [1], {}, () => 1]) {
        assert.throws(() => new Sample("q.a", value), { name: "Mistake", message: /`q\.a` must be a number/ });
    }
});

test("collect may return or yield samples, pairs, problems, and lists of them", () => {
    const plugin = pluginOf(function* () {
        yield new Sample("q.a", 1);
        yield ["q.b", 2];
        yield [graphs[1].samples({ waiting: 3 }, "x"), new Problem("db2:5432", new Unreachable("refused"))];
    });
    const { samples, problems } = new Host().readings(plugin);
    assert.deepEqual(samples.map(({ name, value }) => [name, value]), [["q.a", 1], ["q.b", 2], ["q.of.x.waiting", 3]]);
    assert.deepEqual(problems.map(({ target }) => target), ["db2:5432"]);
    assert.deepEqual(new Host().collect(pluginOf(() => [])), {});
    assert.throws(() => new Host().collect(pluginOf(() => undefined)), { name: "Mistake", message: /returned nothing/ });
    assert.throws(() => new Host().collect(pluginOf(async () => [])), { name: "Mistake", message: /is async/ });
    assert.throws(() => new Host().collect(pluginOf(() => [3])), { name: "Mistake", message: /not 3/ });
});

test("a sample that no graph has is a mistake, where it is made", () => {
    const plugin = pluginOf(() => [new Sample("q.of.a.watiing", 1)]);
    assert.throws(() => new Host().collect(plugin), { name: "Mistake", message: /no graph of the plugin has the sample `q\.of\.a\.watiing`/ });
    assert.throws(() => graphs[1].sample("watiing", 1, "a"), { name: "Mistake", message: /has no metric `watiing`: it has waiting/ });
    assert.throws(() => graphs[1].samples({ watiing: undefined }, "a"), { name: "Mistake", message: /has no metric `watiing`/ });
});

test("samples leaves out what is undefined, and nothing else", () => {
    const graph = new Graph("q", "Q", "integer", { hits: gauge(), misses: gauge() });
    assert.deepEqual(new Host().collect(pluginOf(() => graph.samples({ hits: undefined, misses: 3 }))), { "q.misses": 3 });
    assert.deepEqual(graph.samples({ hits: undefined }), []);
    for (const value of [null, Number.NaN]) {
        assert.throws(() => graph.samples({ hits: value }), { name: "Mistake", message: /leave out what has no value/ });
    }
    assert.throws(() => graph.sample("hits", undefined), { name: "Mistake", message: /leave out what has no value/ });
});

test("a metric with wildcards needs a text for each", () => {
    const graph = new Graph("q.of.#", "Q", "integer", { "*": gauge() });
    assert.equal(graph.sample("*", 1, "a.b/ü", "c").name, "q.of.a_b__.c");
    assert.throws(() => graph.sample("*", 1, "a"), { message: /needs a text/ });
    assert.throws(() => graph.sample("*", 1, "a", "b", "c"), { message: /no wildcard/ });
});

test("a segment has no character that Mackerel refuses", () => {
    assert.equal(segment("config|get my.db-1/日😀"), "config_get_my_db-1___");
});

test("a graph without a unit, a scale of zero and an unknown key of a plugin are refused", () => {
    assert.throws(() => new Graph("q", "Q", "", {}), { message: /unit/ });
    for (const scale of [0, Number.NaN, Infinity]) assert.throws(() => gauge("", { scale }), { message: /scale/ });
    assert.throws(() => new Plugin({ name: "q", version: "1", summary: "", colect: () => [] }), { message: /no `colect`/ });
    assert.throws(() => pluginOf(() => [], { settings: { port: Setting.port({ of: "hots" }) } }), { message: /`hots`, which is not there/ });
});

test("a key that no setting has is a mistake and never misconfigured", () => {
    const settings = { url: Setting.url({ default: "http://localhost/" }) };
    for (const collect of [({ uri }) => [["q.a", uri.length]], (_, own) => [["q.a", own.text("uri").length]]]) {
        assert.throws(() => new Host().collect(pluginOf(collect, { settings })), { name: "Mistake", message: /`uri`: did you mean `url`/ });
    }
});

test("a setting has the type of its kind, and one that is not set is undefined", () => {
    const settings = {
        integer: Setting.integer({ default: -1 }),
        number: Setting.number({ default: 0.5 }),
        boolean: Setting.boolean({ default: true }),
        duration: Setting.duration({ default: "2m" }),
        port: Setting.port({ default: 7 }),
        text: Setting.text({ repeatable: true, default: "x" }),
        none: Setting.text(),
        secret: Setting.secret(),
        tlsSkipVerify: Setting.tlsSkipVerify(),
    };
    const values = new Host().settings(pluginOf(() => [], { settings }), { "tls-skip-verify": true }).values();
    assert.deepEqual({ ...values }, {
        integer: -1,
        number: 0.5,
        boolean: true,
        duration: 120_000,
        port: 7,
        text: ["x"],
        none: undefined,
        secret: undefined,
        tlsSkipVerify: true,
    });
    const endpoint = { endpoint: Setting.endpoint({ default: "[::1]:7" }) };
    const { host, port } = new Host().settings(pluginOf(() => [], { settings: endpoint })).values().endpoint;
    assert.deepEqual([host, port], ["[::1]", 7]);
});

test("a repeated setting keeps the operator's order, and get returns its last value", () => {
    const settings = { header: Setting.text({ repeatable: true }), extra: Setting.text({ repeatable: true }) };
    const own = new Host().settings(pluginOf(() => [], { settings }), { header: ["a: 1", "b: 2"], extra: "netwrok" });
    assert.deepEqual(own.all("header"), ["a: 1", "b: 2"]);
    assert.equal(own.get("header"), "b: 2");
    assert.throws(() => own.someOf("extra", ["memory", "network"]), {
        name: "Misconfigured",
        message: 'unknown value "netwrok" in `extra`, did you mean "network"? valid: memory, network',
    });
});

test("printing a secret shows nothing of it, and its text is denied unless revealed", () => {
    const plugin = pluginOf(() => [], { settings: { token: Setting.secret() } });
    const { token } = new Host().settings(plugin, { token: "s3cret" }).values();
    assert.equal(`${token} ${JSON.stringify({ token })}`, '<secret> {"token":"<secret>"}');
    assert.throws(() => token.reveal(), Denied);
    assert.equal(new Host({ reveal: true }).settings(plugin, { token: "s3cret" }).values().token.reveal(), "s3cret");
    assert.equal(new Host().settings(plugin, { token: "" }).values().token, undefined);
});

const PAGE = "http://localhost/page?key=private";

/** A plugin whose function gets a request for the page. */
const getter = (work) =>
    pluginOf(({ url }) => [["q.a", work(http.get(url)) ? 1 : 0]], { settings: { url: Setting.url({ default: PAGE }) } });

test("an answer that is not 2xx is an error that names the page but not its query", () => {
    for (const [status, Kind] of [[500, Failed], [404, Failed], [302, Failed], [401, Unauthorized]]) {
        const host = new Host().answers(PAGE, "{}", { status });
        assert.throws(() => host.collect(getter((request) => request.json())), (error) => {
            assert.equal(error.constructor, Kind);
            return error.message === `http://localhost/page answers with status ${status}`;
        });
    }
    const busy = new Host().answers(PAGE, "", { status: 429, headers: { "Retry-After": "90" } });
    assert.throws(() => busy.collect(getter((request) => request.ok())), { name: "Busy", waitMs: 90_000 });
});

test("what is not JSON or not text is an error that names the page", () => {
    assert.throws(() => new Host().answers(PAGE, "<html>").collect(getter((request) => request.json())), /http:\/\/localhost\/page is not JSON/);
    assert.throws(() => new Host().answers(PAGE, Uint8Array.of(255)).collect(getter((request) => request.text())), /is not UTF-8/);
});

test("exact JSON has BigInts for whole numbers beyond 2^53, and is else the same", () => {
    const read = (text, options) => {
        let value;
        new Host().answers(PAGE, text).collect(getter((request) => (value = request.json(options)) !== undefined));
        return value;
    };
    const text = '{"a": 9007199254740993, "b": [-18446744073709551615, 9007199254740991], "c\\"12345678901234567890": "12345678901234567890", "d": 1234567890123456789.5e1}';
    assert.deepEqual(read(text, { exact: true }), { ...JSON.parse(text), a: 9007199254740993n, b: [-18446744073709551615n, 9007199254740991] });
    assert.deepEqual(read(text), JSON.parse(text));
    assert.throws(() => read('{"a": 09007199254740993}', { exact: true }), /is not JSON/);
    assert.throws(() => read('{"a": 9007199254740993', { exact: true }), /is not JSON/);
});

test("a request that is not as its answer wants it is an error, whatever the plugin makes of the answer", () => {
    const bare = (status) => new Host().answers(PAGE, "{}", { status, requestHeaders: { "x-token": "s3cret" } });
    const message = `GET ${PAGE} was sent without the header \`x-token: s3cret\``;
    assert.throws(() => bare(200).collect(getter((request) => request.json())), { name: "Error", message });
    assert.throws(() => bare(401).collect(getter((request) => request.json())), { name: "Error", message });
    assert.deepEqual(bare(200).collect(getter((request) => request.header("X-Token", "s3cret").json())), { "q.a": 1 });
    assert.throws(() => new Host().answers(PAGE, "{}", { requestBody: "a" }).collect(getter((request) => request.body("b").json())), /sent with "b", not "a"/);
});

test("what a plugin writes to the console is in the log", () => {
    const host = new Host();
    host.collect(pluginOf(() => (console.info("seen", 3), [])));
    assert.deepEqual(host.logged, [["info", "seen 3"]]);
});

test("who could not be reached is named once", () => {
    for (const unreachable of ["connection refused", "http://localhost: connection refused"]) {
        const host = new Host().answers(PAGE, "", { unreachable });
        assert.throws(() => host.collect(getter((request) => request.json())), { name: "Unreachable", message: "http://localhost: connection refused" });
    }
});

test("an argument of the wrong type is a mistake with the author's line, not a crash", () => {
    for (const work of [
        () => http.get(undefined),
        () => http.get("http://a/").header("x", 3),
        () => http.get("http://a/").bearer("text"),
        () => tcp.connect("a", "80"),
        () => kv.set("a", 3),
    ]) {
        assert.throws(work, (error) => error instanceof Mistake && /\(sdk\.test\.js:\d+\)$/.test(told(error).message));
    }
});

test("what was meant for one server is not sent to another", () => {
    const sent = [];
    const plugin = pluginOf(
        ({ token }) => {
            const request = http.get("http://a/").header("accept", "x").header("Cookie", "x").bearer(token).follow(1);
            request.send();
            for (const url of ["http://b/", "http://a/x"]) {
                const next = request.redirected(url);
                sent.push(["accept", "cookie", "authorization"].filter((name) => next.hasHeader(name)));
            }
            return [];
        },
        { settings: { token: Setting.secret() } },
    );
    const host = new Host({ allow: ["a:80", "b:80"] });
    host.answers("http://a/", "", { status: 302, headers: { location: "//b/" } }).answers("http://b/").collect(plugin, { token: "s3cret" });
    assert.deepEqual(sent, [["accept"], ["accept", "cookie", "authorization"]]);
});

test("a redirect is read from each form of location", () => {
    for (const [location, expected] of [
        ["https://b/x", "https://b/x"],
        ["//b/x", "http://b/x"],
        ["/x", "http://a:81/x"],
        ["x?y#z", "http://a:81/dir/x?y#z"],
        ["../x", "http://a:81/x"],
        ["./x", "http://a:81/dir/x"],
        ["?y", "http://a:81/dir/page?y"],
    ]) {
        const host = new Host({ allow: ["a:81", "b:443", "b:80"] }).answers("http://a:81/dir/page?q=/", "", { status: 302, headers: { location } });
        host.answers(expected, "ok").collect(pluginOf(() => [["q.a", http.get("http://a:81/dir/page?q=/").follow(1).text().length]]));
    }
});

test("what is not granted is denied", () => {
    for (const work of [
        () => http.get("http://elsewhere/").send(),
        () => tcp.connect("localhost", 7),
        () => tcp.connectUnix("/run/x.sock"),
        () => files.read("/etc/passwd", 100),
    ]) {
        assert.throws(() => new Host().collect(pluginOf(work)), Denied);
    }
    const silent = new Plugin({ name: "q", version: "1", summary: "", collect: () => http.get("http://a/").send() });
    assert.throws(() => new Host({ allow: ["a:80"] }).collect(silent), /reaches/);
});

test("a connection gives lines, exact counts, and the rest", () => {
    const plugin = pluginOf(() => {
        const connection = tcp.connect("db", 1);
        connection.send("PING\r\n");
        const lines = [connection.receiveLine(), connection.receiveLine()];
        const exact = connection.receiveExactly(3).length;
        const rest = connection.receiveAll().length;
        assert.equal(connection.receiveLine(), undefined);
        connection.close();
        assert.deepEqual(lines, ["PONG", "日"]);
        return [["q.a", exact], ["q.b", rest]];
    });
    const host = new Host({ allow: ["db:1"] }).talks("db:1", [{ expect: "PING\r\n" }, { send: "PONG\r\n日\nabcde" }]);
    assert.deepEqual(host.collect(plugin), { "q.a": 3, "q.b": 2 });
    assert.deepEqual(host.script.deviations(), []);
});

test("a conversation that deviates is reported", () => {
    const host = new Host({ allow: ["db:1"] }).talks("db:1", [{ expect: "PING" }]).answers("http://a/").hasFile("/a", "");
    assert.throws(() => host.collect(pluginOf(() => tcp.connect("db", 1).send("QUIT"))), /expects "PING", the plugin wrote "QUIT"/);
    assert.deepEqual(host.script.deviations().slice(1), ["the response to GET http://a/ was not used", "the file `/a` was not read"]);
});

test("what is kept survives a call that succeeds and no other", () => {
    const plugin = pluginOf(() => {
        kv.set("a", `${kv.getText("a") ?? ""}x`);
        kv.set("b", "gone", { lastsMs: 60_000 });
        if (kv.getText("a") === "xx") throw new Failed("no");
        return [["q.a", kv.keys().length]];
    });
    const host = new Host();
    assert.deepEqual(host.collect(plugin), { "q.a": 2 });
    host.now += 60;
    assert.throws(() => host.collect(plugin), Failed);
    host.run(() => assert.deepEqual([kv.getText("a"), kv.keys()], ["x", ["a"]]));
});

test("there is no growth if a counter was reset or the counters are others", () => {
    new Host().run(() => {
        assert.equal(growth("k", 5, 7), undefined);
        assert.deepEqual(growth("k", 6, 7), [1, 0]);
        assert.equal(growth("k", 6, 6), undefined);
        assert.equal(growth("k", 6, 6, 6), undefined);
    });
});

test("up is zero alone while the target is down, and logs only changes", () => {
    const host = new Host();
    const graph = new Graph("q", "Q", "integer", { up: gauge() });
    host.run(() => {
        const down = () => up(graph, "up", () => http.get("http://a/").json());
        host.answers("http://a/", "", { unreachable: "refused" });
        host.grants.peers.add("a:80");
        host.grants.reaches = ["http"];
        assert.deepEqual([down(), down()].map(([{ value }]) => value), [0, 0]);
        assert.equal(up(graph, "up", () => [["q.a", 1]])[1].value, 1);
        assert.throws(() => up(graph, "up", () => new Sample("q.a", "3")), Mistake);
        warningDaily("topic", "again");
        warningDaily("topic", "again");
    });
    assert.deepEqual(host.logged, [
        ["warning", "the target is down: http://a: refused"],
        ["info", "the target is up again"],
        ["warning", "again"],
    ]);
});

test("without a host a capability says how to test", () => {
    assert.throws(() => kv.get("a"), /wasaba-plugin\/testing/);
});

test("a check may have several reports, and must have one", () => {
    const check = (own) => new Host().check(new Plugin({ name: "q", version: "1", summary: "", check: own })).map(({ status }) => status);
    assert.deepEqual(check(() => [Report.ok("fine"), Report.critical("bad", { name: "disk" })]), ["ok", "critical"]);
    assert.deepEqual(check(() => Report.unknown("?")), ["unknown"]);
    assert.throws(() => check(() => []), /no Report/);
    assert.throws(() => check(() => ["ok"]), /not "ok"/);
});

test("metadata is one value or several documents", () => {
    const metadata = (given) => new Host().metadata(new Plugin({ name: "q", version: "1", summary: "", metadata: () => given }));
    assert.deepEqual(metadata({ a: 1 }), { "": { a: 1 } });
    assert.deepEqual(metadata([1, 2]), { "": [1, 2] });
    assert.deepEqual(metadata([new Document("日"), new Document([], "q-more")]), { "": "日", "q-more": [] });
    assert.throws(() => metadata(undefined), /cannot be JSON/);
});

test("a case holds the log and a file that cannot be read against what it expects", () => {
    const plugin = pluginOf(
        ({ path }) => {
            log.warning("long");
            log.info("more");
            return [["q.bytes", files.read(path, 9).length]];
        },
        { settings: { path: Setting.file({ required: true }) } },
    );
    const table = {
        name: "x",
        settings: { path: "/a" },
        files: { "/a": { unreadable: "Permission denied" } },
        error: "failed",
        says: "cannot read `/a`: Permission denied",
    };
    const run = (expected) => new Case("tests.toml", { ...table, log: expected }).run(plugin);
    run(["warning: long", "more"]);
    assert.throws(() => run(["debug: long"]), /the log has "warning: long", not one with "debug: long"\n.*unexpected in the log: "info: more"/);
    assert.throws(() => run(["long", "more", "third"]), /missing in the log: "third"/);
});
