// A plugin that uses everything in the contract once, as tests/plugins/everything does in Rust.

import {
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
    delta,
    files,
    gauge,
    http,
    kv,
    log,
    perMinute,
    perMinute32,
    perSecond,
    tcp,
} from "wasaba-plugin";

const done = new Graph("everything.done", "Everything", "integer", {
    http: gauge("Status of the page"),
    tcp: gauge("Echoed bytes", { stacked: true }),
    unix: gauge("Echoed bytes", { stacked: true }),
    file: gauge("Length of the file"),
    calls: gauge("Calls so far"),
    then: gauge("A minute ago"),
});

const rates = new Graph("everything.rates.#", "Rates", "bytes-per-second", {
    minute: perMinute("Per minute"),
    wraps: perMinute32("Per minute"),
    delta: delta("Since the last call"),
    "*": perSecond("Per second", { scale: 8 }),
});

export default new Plugin({
    name: "everything",
    version: "0.1.0",
    summary: "uses everything in the contract once",
    reaches: ["http", "tcp", "unix", "file"],
    license: "Apache-2.0",
    homepage: "https://example.com/everything",
    intervalSeconds: 60,
    timeoutSeconds: 10,
    agent: "0.1.0",
    settings: {
        url: Setting.url({ required: true, help: "a page to get" }),
        host: Setting.host({ default: "localhost", help: "an echo server" }),
        port: Setting.port({ of: "host", default: 7, help: "an echo server" }),
        endpoint: Setting.endpoint({ repeatable: true, help: "servers that are not there" }),
        socket: Setting.unixSocket({ required: true, help: "another echo server" }),
        file: Setting.file({ required: true, help: "a file to read" }),
        text: Setting.text({ default: "text", repeatable: true, help: "any text" }),
        token: Setting.secret({ help: "a secret" }),
        integer: Setting.integer({ default: -1, help: "a whole number" }),
        number: Setting.number({ default: 0.5, help: "a number" }),
        boolean: Setting.boolean({ default: true, help: "yes or no" }),
        patience: Setting.duration({ default: "5s", help: "how long to wait" }),
        tlsSkipVerify: Setting.tlsSkipVerify({ help: "accept any certificate" }),
        sslmode: Setting.tlsMode({ default: "verify-full", aliases: { "verify-full": "full" }, help: "how TLS is used" }),
    },
    graphs: [done, rates],
    collect,
    check,
    metadata,
});

function* collect(settings) {
    log.debug("debug");
    log.info("info");
    console.warn("warning");
    const { token } = settings;
    const request = http.get(settings.url).header("accept", "*/*");
    request.headerSecret("x-token", token, { prefix: "token " }).basicAuth("me", token).headerLines(token);
    if (!request.hasHeader("Accept")) throw new Failed("the request has no header");
    const page = request.follow(1).send();
    const stream = tcp.connect(settings.host, settings.port);
    tcp.connect(settings.host, settings.port, { timeoutMs: 5_000 }).close();
    const unix = tcp.connectUnix(settings.socket);
    const size = fileSize(settings.file);
    const calls = Math.min((kv.get("calls")?.[0] ?? 0) + 1, 255);
    kv.set("calls", Uint8Array.of(calls));
    kv.set("gone", "soon");
    kv.delete("gone");
    kv.set("calls.last", Uint8Array.of(calls), { lastsMs: 60_000 });
    if (kv.keys("c").join() !== "calls,calls.last") throw new Failed(`unexpected keys: ${kv.keys()}`);
    const minute = call.minute();
    if (
        call.remainingMs() > 60_000 ||
        minute.getTime() % 60_000 !== 0 ||
        call.limit("samples") !== 1_000 ||
        call.agentVersion() === "" ||
        !call.has("tcp") ||
        call.has("everything")
    ) {
        throw new Failed("the call does not know what it is");
    }
    // What is a number, a boolean or a duration comes in its type.
    const { integer, number, boolean, patience } = settings;
    if (integer !== -1 || number !== 0.5 || boolean !== true || patience !== 5_000) throw new Failed("a setting is not what it was by default");
    yield done.samples({ http: page.status, tcp: echoed(stream, token), unix: echoed(unix, token), file: size });
    yield done.sample("calls", calls).label("kind", "calls");
    yield new Sample("everything.done.then", calls, { at: new Date(minute.getTime() - 60_000) });
    yield rates.samples({ minute: calls, wraps: calls }, "a");
    yield rates.sample("*", calls, "a", "second");
    yield ["everything.rates.a.delta", BigInt(calls)];
    for (const { host, port } of settings.endpoint) {
        try {
            tcp.connect(host, port);
        } catch (error) {
            yield new Problem(`${host}:${port}`, error);
        }
    }
}

/** The size of the file, which is read whole and in parts. */
function fileSize(path) {
    const [whole, file] = [files.read(path, 1 << 20), files.open(path)];
    const stat = file.stat();
    if (stat.size !== whole.length || stat.id === "0" || whole[0] !== file.readAt(0, 1)[0]) {
        throw new Failed("a part of the file differs from the whole");
    }
    return stat.size;
}

/** How many bytes an echo server sends back. */
function echoed(connection, token) {
    connection.setTimeout(5_000);
    if (!connection.isLocal()) throw new Failed("the echo server is not on this machine");
    connection.send("everything");
    if (token) connection.sendSecret("<", token, ">");
    connection.finish();
    for (let bytes = 0; ; ) {
        const some = connection.receive(4).length;
        if (some === 0) return bytes;
        bytes += some;
    }
}

function check({ url }) {
    const { status } = http.head(url).body("").send();
    const page =
        status === 200
            ? Report.ok("the page is there")
            : new Report(status < 500 ? "warning" : "critical", `the page answers ${status}`);
    return [page, Report.unknown("nothing is known of it", { name: "else" })];
}

function metadata({ text, host, port, token }, settings) {
    // Never called but by the tests: it links the functions.
    if (settings.get("text") === "never") {
        if (!token) throw new Misconfigured("`token` is not set");
        tcp.connect(host, port).startTls({ serverName: "localhost", alpn: ["h2"] });
        const proof = crypto.scramSha256(token, "salt", 4_096, "");
        const md5 = crypto.postgresMd5(token, "me", proof.serverSignature);
        return token.reveal() + md5;
    }
    return [new Document({ texts: text.length }), new Document([], "all-more")];
}
