// A fake host, so that a plugin's functions can be tested natively, in milliseconds. Grants count, as in the agent; limits, TLS and the
// text of the agent's own errors do not. `wasaba plugin test` has the last word.

import { createHash, createHmac, pbkdf2Sync } from "node:crypto";
import { readFileSync } from "node:fs";
import { dirname, join } from "node:path";

import { hosts } from "../wire/native/host.js";
import { console as logging } from "./console.js";
import { keyOf } from "./description.js";
import { Misconfigured, told } from "./errors.js";
import { Secret } from "./secret.js";
import { Settings, parsed } from "./settings.js";
import { parse } from "./toml.js";

const utf8 = new TextEncoder();
const bytesOf = (content) => (typeof content === "string" ? utf8.encode(content) : Uint8Array.from(content));
const textOf = (bytes) => new TextDecoder().decode(bytes);
const shown = (bytes) => JSON.stringify(textOf(bytes).slice(0, 200));
const starts = (bytes, with_) => with_.length <= bytes.length && with_.every((byte, at) => byte === bytes[at]);
const joined = (one, other) => Uint8Array.from([...one, ...other]);

/** An error as the engine throws it. */
function wireError(kind, message) {
    return Object.assign(new Error(message), { payload: { kind, message, retryAfterMs: undefined, attributes: [] } });
}

const LIMITS = { samples: 1_000, log_lines: 16, connections: 16, body_kib: 4_096, file_kib: 4_096, kv_kib: 64 };

/** What is outside of the plugin: canned answers, files, and what is kept from call to call. */
export class Host {
    constructor({ allow = [], reveal = false, virtualHost } = {}) {
        this.allow = allow;
        this.reveal = reveal;
        this.virtualHost = virtualHost;
        /** In seconds since 1970. */
        this.now = Math.floor(Date.now() / 60_000) * 60;
        /** What was logged: pairs of level and line. */
        this.logged = [];
        /** What is kept, by key, as bytes. */
        this.kept = new Map();
        this.script = new Script();
        /** Whether a request that is not as an answer wants it is an error at once; a case reports it with the other differences. */
        this.isStrict = true;
        this.grants = new Grants();
        this.wire = wireOf(this);
    }

    /**
     * Adds an HTTP response; an object is sent as JSON. Several to the same request are used in order, the last one again and again.
     * A request without the `requestHeaders`, or with another body than `requestBody`, is an error of the call.
     */
    answers(url, body = "", { method = "GET", status = 200, headers = {}, requestHeaders = {}, requestBody, unreachable } = {}) {
        const content = typeof body === "string" || body instanceof Uint8Array ? body : JSON.stringify(body);
        this.script.http.push({
            method,
            url,
            status,
            headers: Object.entries(headers).map(([name, value]) => [name.toLowerCase(), bytesOf(value)]),
            body: bytesOf(content),
            requestHeaders,
            requestBody: requestBody === undefined ? undefined : bytesOf(requestBody),
            unreachable,
            isUsed: false,
        });
        return this;
    }

    /** Adds a conversation with `host:port` or `unix:/path`: turns of `{ expect: ... }` and `{ send: ... }`. */
    talks(peer, turns = [], { unreachable } = {}) {
        const pairs = turns.flatMap((turn) => Object.entries(turn).map(([kind, content]) => [kind, bytesOf(content)]));
        this.script.tcp.push({ peer, turns: pairs, unreachable, isUsed: false });
        return this;
    }

    /** Adds a file. */
    hasFile(path, content) {
        this.script.files.set(path, bytesOf(content));
        return this;
    }

    /** Adds a file that cannot be read, such as one that is missing. */
    hasUnreadableFile(path, why = "No such file or directory") {
        this.script.files.set(path, why);
        return this;
    }

    /** Calls `collect` with these settings, and returns the readings by name, as the plugin gave them. */
    collect(plugin, given = {}) {
        const { samples } = this.readings(plugin, given);
        return Object.fromEntries(samples.map(({ name, value }) => [name, value]));
    }

    /** As `collect`, with samples and problems. */
    readings(plugin, given = {}) {
        return this.call(() => plugin.collected(this.settings(plugin, given)));
    }

    /** Calls `check` with these settings. */
    check(plugin, given = {}) {
        return this.call(() => plugin.checked(this.settings(plugin, given)));
    }

    /** Calls `metadata` with these settings; namespaces with their JSON values. */
    metadata(plugin, given = {}) {
        const { documents } = this.gathered(plugin, given);
        return Object.fromEntries(documents.map(({ namespace, json }) => [namespace, JSON.parse(json)]));
    }

    gathered(plugin, given = {}) {
        return this.call(() => plugin.gathered(this.settings(plugin, given)));
    }

    /** Does something with this host as the agent, for tests of what is below the plugin's functions. */
    run(work) {
        const { script } = this;
        const before = script.wrong.length;
        hosts.push(this);
        const { console } = globalThis;
        globalThis.console = alsoLogged(console);
        try {
            return work();
        } finally {
            globalThis.console = console;
            hosts.splice(hosts.lastIndexOf(this), 1);
            // Whatever the plugin made of the answer: it was the answer to another request.
            const wrong = this.isStrict ? script.wrong.slice(before) : [];
            if (wrong.length > 0) throw new Error(wrong.join("; "));
        }
    }

    call(work) {
        const kept = new Map(this.kept);
        try {
            return this.run(work);
        } catch (error) {
            // A call that fails keeps nothing.
            this.kept = kept;
            throw error;
        }
    }

    /** The settings of an instance whose operator wrote what is `given`, validated, with the defaults. */
    settings(plugin, given = {}) {
        const declared = plugin.declared();
        const written = new Map(Object.entries(given).map(([key, value]) => [keyOf(key), value]));
        for (const key of written.keys()) {
            if (!declared.some((setting) => setting.key === key)) {
                throw new Error(`unknown setting \`${key}\`; the plugin has ${declared.map((setting) => setting.key).join(", ") || "none"}`);
            }
        }
        const pairs = [];
        for (const setting of declared) {
            let values = texts(written.get(setting.key));
            if (values.length > 1 && !setting.repeatable) throw new Error(`\`${setting.key}\` is not repeatable`);
            if (values.length === 0 && setting.default !== undefined) values = [setting.default];
            if (values.length === 0 && setting.required) throw new Error(`\`${setting.key}\` is required`);
            for (const value of values) {
                try {
                    parsed(setting.key, setting.kind, value);
                } catch (error) {
                    throw error instanceof Misconfigured ? new Error(error.message) : error;
                }
                pairs.push([setting.key, setting.kind === "secret" ? new Secret(new SecretText(this, value)) : value]);
            }
        }
        this.grants = Grants.of(plugin, declared, written, this.allow);
        return new Settings(plugin.settings, pairs);
    }
}

/** A console that writes to the host's log, too, as it does in the component. */
function alsoLogged(console) {
    const both = (name) => (...values) => {
        console[name](...values);
        logging[name](...values);
    };
    return { ...console, ...Object.fromEntries(Object.keys(logging).map((name) => [name, both(name)])) };
}

/** What the operator wrote, as the agent hands it over. */
function texts(value) {
    if (value === undefined) return [];
    return (Array.isArray(value) ? value : [value]).map(String);
}

class SecretText {
    constructor(host, text) {
        this.host = host;
        this.text = text;
    }
    length() {
        return bytesOf(this.text).length;
    }
    reveal() {
        if (!this.host.reveal) throw wireError("denied", "the secret is not revealed: write `reveal = true`");
        return this.text;
    }
}

const isLocal = (host) => ["localhost", "::1"].includes(bare(host)) || bare(host).startsWith("127.");
const bare = (host) => String(host).replace(/^\[|\]$/g, "").toLowerCase();

/** What an instance may reach. */
class Grants {
    constructor() {
        this.reaches = [];
        this.origins = new Set();
        this.peers = new Set();
        this.sockets = new Set();
        this.files = new Set();
    }

    static of(plugin, declared, written, allow) {
        const grants = new Grants();
        grants.reaches = plugin.reaches;
        let isFirst = true;
        for (const setting of declared) {
            const values = texts(written.get(setting.key));
            if (setting.kind === "url") {
                if (setting.default !== undefined) {
                    if (values.length === 0 && isFirst && isLocal(new URL(setting.default).hostname)) values.push(setting.default);
                    isFirst = false;
                }
                for (const value of values) grants.addUrl(value);
            } else if (setting.kind === "endpoint") {
                for (const value of values) grants.addPeer(value);
            } else if (setting.kind === "port" && setting.portOf !== undefined) {
                const host = written.get(setting.portOf) ?? declared.find((other) => other.key === setting.portOf)?.default;
                const port = values[0] ?? setting.default;
                const isWritten = written.has(setting.portOf) || (values.length > 0 && isLocal(host));
                if (host !== undefined && port !== undefined && isWritten) grants.peers.add(`${bare(host)}:${port}`);
            } else if (setting.kind === "unix-socket") {
                for (const value of values) grants.sockets.add(value);
            } else if (setting.kind === "file") {
                for (const value of values) grants.files.add(value);
            }
        }
        for (const entry of allow) {
            if (entry.startsWith("unix:")) grants.sockets.add(entry.slice(5));
            else if (entry.startsWith("file:")) grants.files.add(entry.slice(5));
            else if (entry.includes("://")) grants.addUrl(entry);
            else grants.addPeer(entry);
        }
        return grants;
    }

    addUrl(url) {
        const { protocol, hostname, port } = new URL(url);
        this.origins.add(`${protocol}//${hostname}:${port || { "http:": 80, "https:": 443 }[protocol]}`);
    }

    addPeer(text) {
        const at = text.lastIndexOf(":");
        this.peers.add(`${bare(text.slice(0, at))}:${text.slice(at + 1)}`);
    }

    reach(word) {
        if (!this.reaches.includes(word)) throw wireError("denied", `the plugin does not say that it reaches "${word}"`);
    }

    http(url) {
        this.reach("http");
        const { protocol, hostname, port } = new URL(url);
        const number = port || { "http:": 80, "https:": 443 }[protocol];
        const origin = `${protocol}//${hostname}:${number}`;
        if (!this.origins.has(origin) && !this.peers.has(`${bare(hostname)}:${number}`)) throw wireError("denied", `no grant for ${origin}`);
    }

    tcp(host, port) {
        this.reach("tcp");
        if (!this.peers.has(`${bare(host)}:${port}`)) throw this.no(`${host}:${port}`);
    }

    unix(path) {
        this.reach("unix");
        if (!this.sockets.has(path)) throw this.no(`unix:${path}`);
    }

    file(path) {
        this.reach("file");
        if (!this.files.has(path)) throw this.no(`file:${path}`);
    }

    no(what) {
        return wireError("denied", `no grant for ${what}: write \`allow = ["${what}"]\``);
    }
}

const METHODS = ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"];
const OF_THE_CONNECTION = /^(connection|content-length|transfer-encoding|upgrade|keep-alive|te|trailer|proxy-.*)?$/;

/** The contract's functions, of this host. */
function wireOf(host) {
    class Request {
        constructor(method, url) {
            Object.assign(this, { method, url, headers: new Map(), body: undefined });
        }
        setHeader(name, value) {
            const own = name.toLowerCase();
            if (OF_THE_CONNECTION.test(own) || /[\r\n\0]/.test(value)) throw wireError("invalid", `invalid header \`${own}\``);
            if (own === "host" && value !== host.virtualHost) {
                throw wireError("denied", `no grant for the header \`host\`: write \`virtual_host = "${value}"\``);
            }
            this.headers.set(own, value);
        }
        setHeaderSecret(name, prefix, secret) {
            this.setHeader(name, prefix + secret.text);
        }
        setBasicAuth(user, password) {
            this.setHeader("authorization", `Basic ${Buffer.from(`${user}:${password.text}`).toString("base64")}`);
        }
        setHeaderLines(lines) {
            for (const line of lines.text.split("\n").map((own) => own.trim()).filter(Boolean)) {
                const colon = line.indexOf(":");
                if (colon < 0) throw wireError("misconfigured", "a line is not `Name: value`");
                this.headers.set(line.slice(0, colon).trim().toLowerCase(), line.slice(colon + 1).trim());
            }
        }
        hasHeader(name) {
            return this.headers.has(name.toLowerCase());
        }
        setBody(body) {
            this.body = Uint8Array.from(body);
        }
    }
    class TlsOptions {
        setServerName() {}
        setAlpn() {}
    }
    const alive = (key) => {
        const entry = host.kept.get(key);
        return entry !== undefined && (entry.until ?? Infinity) > host.now * 1_000 ? entry.value : undefined;
    };
    return {
        http: {
            Request,
            send: (request) => {
                if (!METHODS.includes(request.method)) throw wireError("invalid", `invalid method ${request.method}`);
                if (!/^https?:\/\/[^/]/i.test(request.url) || !URL.canParse(request.url)) throw wireError("invalid", `invalid URL ${request.url}`);
                host.grants.http(request.url);
                return host.script.fetch(request);
            },
        },
        tcp: {
            TlsOptions,
            Connection: {
                connect: (name, port) => {
                    host.grants.tcp(name, port);
                    return host.script.connect(`${name}:${port}`, isLocal(name));
                },
                connectUnix: (path) => {
                    host.grants.unix(path);
                    return host.script.connect(`unix:${path}`, true);
                },
            },
        },
        kv: {
            get: alive,
            set: (key, value, ttlMs) => {
                if (key === "" || bytesOf(key).length > 255) throw wireError("invalid", "a key has 1 to 255 bytes");
                const until = ttlMs === undefined ? undefined : host.now * 1_000 + Number(ttlMs);
                host.kept.set(key, { value: Uint8Array.from(value), until });
                const size = [...host.kept].reduce((sum, [own, entry]) => sum + own.length + entry.value.length, 0);
                if (size > 65_536) throw wireError("full", "more than 64 KiB of keys and values");
            },
            delete: (key) => void host.kept.delete(key),
            keys: (prefix) => [...host.kept.keys()].filter((key) => key.startsWith(prefix) && alive(key) !== undefined).sort(),
        },
        log: { write: (level, line) => void host.logged.push([level, line]) },
        files: {
            File: {
                open: (path) => {
                    host.grants.file(path);
                    return host.script.file(path);
                },
            },
        },
        crypto: { scramSha256, postgresMd5 },
        call: {
            remainingMs: () => 10_000,
            minute: () => Math.floor(host.now / 60) * 60,
            limit: (name) => LIMITS[name],
            agentVersion: () => "0.2.0",
            has: (feature) => ["http", "tcp", "kv", "log", "files", "crypto", "call"].includes(feature.split(".")[0]),
        },
    };
}

function scramSha256(password, salt, iterations, authMessage) {
    if (salt.length === 0 || iterations < 4_096) throw wireError("invalid", "the salt is empty, or there are less than 4096 iterations");
    if (iterations > 100_000) throw wireError("too-costly", "more than 100000 iterations (pbkdf2_iterations)");
    const mac = (key, text) => createHmac("sha256", key).update(text).digest();
    const salted = pbkdf2Sync(password.text, salt, iterations, 32, "sha256");
    const client = mac(salted, "Client Key");
    const signature = mac(createHash("sha256").update(client).digest(), authMessage);
    const clientProof = client.map((byte, at) => byte ^ signature[at]);
    return { clientProof, serverSignature: mac(mac(salted, "Server Key"), authMessage), attributes: [] };
}

function postgresMd5(password, user, salt) {
    const md5 = (...parts) => parts.reduce((hash, part) => hash.update(part), createHash("md5")).digest("hex");
    return `md5${md5(md5(password.text + user), salt)}`;
}

/** Canned answers, what of them was used, and how the plugin deviated from them. */
class Script {
    constructor() {
        this.http = [];
        this.tcp = [];
        this.files = new Map();
        this.read = new Set();
        this.noted = [];
        // Those of them that are about requests which are not as their answer wants them.
        this.wrong = [];
        this.conversations = [];
    }

    note(text) {
        this.noted.push(text);
        return text;
    }

    noteWrong(text) {
        this.wrong.push(this.note(text));
    }

    fetch(request) {
        const fitting = this.http.filter((answer) => answer.method === request.method && answer.url === request.url);
        if (fitting.length === 0) throw wireError("unreachable", this.note(`the case has no response to ${request.method} ${request.url}`));
        const answer = fitting.find((own) => !own.isUsed) ?? fitting.at(-1);
        answer.isUsed = true;
        for (const [name, value] of Object.entries(answer.requestHeaders)) {
            if (request.headers.get(name.toLowerCase()) !== value) {
                this.noteWrong(`${answer.method} ${answer.url} was sent without the header \`${name}: ${value}\``);
            }
        }
        if (answer.requestBody !== undefined) {
            const sent = request.body === undefined ? "no body" : shown(request.body);
            const isSame = request.body !== undefined && request.body.length === answer.requestBody.length && starts(request.body, answer.requestBody);
            if (!isSame) this.noteWrong(`${answer.method} ${answer.url} was sent with ${sent}, not ${shown(answer.requestBody)}`);
        }
        if (answer.unreachable !== undefined) throw wireError("unreachable", answer.unreachable);
        return { status: () => answer.status, headers: () => answer.headers, body: () => answer.body };
    }

    connect(peer, local) {
        const talk = this.tcp.find((own) => own.peer === peer && !own.isUsed);
        if (talk === undefined) throw wireError("unreachable", this.note(`the case has no more conversations with ${peer}`));
        talk.isUsed = true;
        if (talk.unreachable !== undefined) throw wireError("unreachable", talk.unreachable);
        const conversation = new Conversation(this, peer, local, [...talk.turns]);
        this.conversations.push(conversation);
        conversation.advance();
        return conversation;
    }

    file(path) {
        const content = this.files.get(path);
        if (content === undefined) throw wireError("failed", this.note(`the case has no file \`${path}\``));
        this.read.add(path);
        if (typeof content === "string") throw wireError("failed", `cannot read \`${path}\`: ${content}`);
        const id = 1 + [...this.files.keys()].indexOf(path);
        return {
            stat: () => ({ size: content.length, modifiedMs: 0, id, attributes: [] }),
            readAt: (offset, maxBytes) => content.slice(Number(offset), Number(offset) + Math.min(maxBytes, 4 << 20)),
        };
    }

    deviations() {
        for (const conversation of this.conversations) conversation.end();
        return [
            ...this.noted,
            ...this.http.filter((own) => !own.isUsed).map((own) => `the response to ${own.method} ${own.url} was not used`),
            ...this.tcp.filter((own) => !own.isUsed).map((own) => `the conversation with ${own.peer} was not used: the plugin did not connect`),
            ...[...this.files.keys()].filter((path) => !this.read.has(path)).map((path) => `the file \`${path}\` was not read`),
        ];
    }
}

/** A connection whose other side follows the script. */
class Conversation {
    constructor(script, peer, local, turns) {
        Object.assign(this, { script, peer, local, turns, written: new Uint8Array(0), unread: new Uint8Array(0), hasEnded: false });
    }

    advance() {
        while (this.turns.length > 0) {
            const [kind, content] = this.turns[0];
            if (kind === "send") this.unread = joined(this.unread, content);
            else if (starts(this.written, content)) this.written = this.written.slice(content.length);
            else if (starts(content, this.written)) return;
            else {
                const text = `the conversation with ${this.peer} expects ${shown(content)}, the plugin wrote ${shown(this.written)}`;
                this.turns = [];
                this.written = new Uint8Array(0);
                throw wireError("unreachable", this.script.note(text));
            }
            this.turns.shift();
        }
    }

    read(maxBytes) {
        if (this.unread.length === 0 && this.turns.length > 0) {
            throw wireError("unreachable", `the plugin reads, but the case expects it to write ${shown(this.turns[0][1])}`);
        }
        const data = this.unread.slice(0, maxBytes);
        this.unread = this.unread.slice(maxBytes);
        return data;
    }

    write(data) {
        this.written = joined(this.written, data);
        this.advance();
    }

    writeSecret(prefix, secret, suffix) {
        this.write(joined(joined(prefix, bytesOf(secret.text)), suffix));
    }

    isLocal() {
        return this.local;
    }

    finish() {}

    startTls() {
        return { protocol: "TLSv1.3", alpn: undefined, verified: "full", chain: [], attributes: [] };
    }

    setTimeout() {}

    [Symbol.dispose ?? Symbol.for("dispose")]() {
        this.end();
    }

    end() {
        if (this.hasEnded) return;
        this.hasEnded = true;
        if (this.turns.length > 0) this.script.note(`the conversation with ${this.peer} ended before the plugin wrote ${shown(this.turns[0][1])}`);
        else if (this.written.length > 0) this.script.note(`at the end of the conversation with ${this.peer} the plugin wrote ${shown(this.written)}`);
        if (this.unread.length > 0) this.script.note(`the conversation with ${this.peer} ended before the plugin read ${shown(this.unread)}`);
    }
}

// The cases of `wasaba plugin test`.

// `imports` and `max_compute_ms` are of the component, which there is not here.
const OF_A_CASE = ["name", "settings", "allow", "reveal", "virtual_host", "timeout_seconds", "minute", "imports", "max_compute_ms"];
const OF_A_MINUTE = ["http", "tcp", "files", "samples", "error", "check", "metadata", "says", "call", "after_seconds", "log"];
// What only the agent does.
const OF_THE_AGENT = [
    "custom_identifier",
    "digest",
    "engine",
    "exclude_pattern",
    "hosts",
    "include_pattern",
    "interval_minutes",
    "key_prefix",
    "limits",
    "tls",
];

/** The cases of a file such as `tests.toml`, without those that only the agent can run. */
export function cases(file) {
    let tables;
    try {
        tables = parse(readFileSync(file, "utf8")).case ?? [];
    } catch (error) {
        throw new Error(`${file}: ${error.message}`);
    }
    if (tables.length === 0) throw new Error(`${file} has no case: write \`[[case]]\``);
    return tables.map((table) => new Case(String(file), table)).filter((own) => !own.isOfTheAgent);
}

/** A case of `wasaba plugin test`. */
export class Case {
    constructor(file, table) {
        this.file = file;
        this.table = table;
        this.name = table.name;
        this.minutes = table.minute ?? [Object.fromEntries(Object.entries(table).filter(([key]) => OF_A_MINUTE.includes(key)))];
        const unknown = Object.keys(table).find((key) => ![...OF_A_CASE, ...OF_A_MINUTE, ...OF_THE_AGENT].includes(key));
        if (unknown !== undefined) throw new Error(`${file}: case "${this.name}" has an unknown key \`${unknown}\``);
        const errors = this.minutes.map((minute) => minute.error);
        this.isOfTheAgent =
            Object.keys(table).some((key) => OF_THE_AGENT.includes(key)) ||
            errors.some((error) => ["late", "limit", "crashed", "internal"].includes(error));
    }

    /** Runs it; an error says how the result differs. */
    run(plugin) {
        const { allow, reveal, virtual_host: virtualHost } = this.table;
        const host = new Host({ allow, reveal, virtualHost });
        host.isStrict = false;
        const counters = new Map();
        const differences = [];
        for (const [number, minute] of this.minutes.entries()) {
            host.now += minute.after_seconds ?? 60;
            host.script = this.script(minute);
            const before = host.logged.length;
            const lines = [...this.play(plugin, host, minute, counters), ...host.script.deviations()];
            if (minute.log !== undefined) {
                const logged = host.logged.slice(before).map(([level, line]) => this.redacted(plugin, `${level}: ${line}`));
                lines.push(...otherLog(minute.log, logged));
            }
            const where = this.minutes.length > 1 ? `minute ${number + 1}: ` : "";
            differences.push(...lines.map((line) => where + line));
        }
        if (differences.length > 0) throw new Error(`${this.file}, "${this.name}":\n  ${differences.join("\n  ")}`);
    }

    content(content) {
        if (typeof content === "string") return bytesOf(content);
        if (content.file !== undefined) return Uint8Array.from(readFileSync(join(dirname(this.file), content.file)));
        return Uint8Array.from(content.hex.replaceAll(/\s/g, "").match(/../g) ?? [], (pair) => Number.parseInt(pair, 16));
    }

    script(minute) {
        const host = new Host();
        for (const answer of minute.http ?? []) {
            host.answers(answer.url, this.content(answer.body ?? ""), {
                method: answer.method,
                status: answer.status,
                headers: answer.headers,
                requestHeaders: answer.request_headers,
                requestBody: answer.request_body === undefined ? undefined : this.content(answer.request_body),
                unreachable: answer.unreachable,
            });
        }
        for (const talk of minute.tcp ?? []) {
            const turns = (talk.talk ?? []).map((turn) => Object.fromEntries(Object.entries(turn).map(([kind, own]) => [kind, this.content(own)])));
            host.talks(talk.with, turns, { unreachable: talk.unreachable });
        }
        for (const [path, content] of Object.entries(minute.files ?? {})) {
            if (content.unreadable === undefined) host.hasFile(path, this.content(content));
            else host.hasUnreadableFile(path, content.unreadable);
        }
        return host.script;
    }

    play(plugin, host, minute, counters) {
        const given = this.table.settings ?? {};
        const lines = [];
        const does = plugin.does();
        const mustFail = minute.error === undefined ? undefined : (minute.call ?? does[0]);
        if (mustFail !== undefined && !does.includes(mustFail)) return [`expected ${mustFail} to fail, but the plugin does not have it`];
        const attempt = (work, then) => {
            let result;
            try {
                result = work();
            } catch (error) {
                lines.push(...this.failure(plugin, minute, error));
                return;
            }
            then(result);
            for (const { target, error } of result.problems ?? []) lines.push(`${target}: ${error.message}`);
        };
        if (minute.samples !== undefined || mustFail === "metrics") {
            attempt(
                () => host.readings(plugin, given),
                (read) => {
                    const values = posted(plugin, host, given, read.samples, counters);
                    if (mustFail === "metrics") lines.push(`expected a failure, got: ${JSON.stringify(values)}`);
                    else lines.push(...otherValues(minute.samples, values));
                },
            );
        }
        if (minute.check !== undefined || mustFail === "checks") {
            attempt(
                () => host.check(plugin, given),
                (reports) => {
                    const rank = ({ status }) => ["ok", "unknown", "warning", "critical"].indexOf(status);
                    const worst = reports.reduce((one, other) => (rank(other) >= rank(one) ? other : one));
                    if (mustFail === "checks") lines.push(`expected a failure, got: ${worst.message}`);
                    else if (worst.status !== minute.check) lines.push(`the check is ${worst.status}: ${worst.message}`);
                    else lines.push(...missingText(minute, worst.message));
                },
            );
        }
        if (minute.metadata !== undefined || mustFail === "metadata") {
            attempt(
                () => host.gathered(plugin, given),
                ({ documents }) => {
                    const own = this.redacted(plugin, documents.find(({ namespace }) => namespace === "")?.json ?? "null");
                    if (mustFail === "metadata") lines.push(`expected a failure, got: ${own}`);
                    else if (sorted(JSON.parse(own)) !== sorted(minute.metadata)) lines.push(`the metadata is ${own}`);
                },
            );
        }
        return lines;
    }

    failure(plugin, minute, error) {
        const { kind, message: text } = told(error);
        const message = this.redacted(plugin, text);
        return minute.error === kind ? missingText(minute, message) : [`failed (${kind}): ${message}`];
    }

    /** What the plugin says, without the texts of secrets, as the agent hands it on. */
    redacted(plugin, text) {
        const secrets = plugin.declared().filter(({ kind }) => kind === "secret");
        const values = secrets.flatMap(({ key }) => texts(this.table.settings?.[key])).filter(Boolean);
        return values.reduce((own, secret) => own.replaceAll(secret, "[redacted]"), text);
    }
}

function sorted(value) {
    return JSON.stringify(value, (_, inner) =>
        inner !== null && typeof inner === "object" && !Array.isArray(inner)
            ? Object.fromEntries(Object.entries(inner).sort(([one], [other]) => (one < other ? -1 : 1)))
            : inner,
    );
}

function missingText(minute, text) {
    const says = minute.says ?? "";
    return text.includes(says) ? [] : [`expected a message with ${JSON.stringify(says)}, got: ${text}`];
}

function otherLog(expected, actual) {
    const lines = [];
    for (const [at, text] of expected.entries()) {
        if (actual[at] === undefined) lines.push(`missing in the log: ${JSON.stringify(text)}`);
        else if (!actual[at].includes(text)) lines.push(`the log has ${JSON.stringify(actual[at])}, not one with ${JSON.stringify(text)}`);
    }
    lines.push(...actual.slice(expected.length).map((line) => `unexpected in the log: ${JSON.stringify(line)}`));
    return lines;
}

function otherValues(expected, actual) {
    const lines = [];
    for (const [name, value] of Object.entries(expected)) {
        const other = actual[name];
        if (other === undefined) lines.push(`missing: ${name} = ${value}`);
        else if (Math.abs(value - other) > 2e-15 * Math.max(Math.abs(value), Math.abs(other))) lines.push(`${name} is ${other}, not ${value}`);
    }
    for (const [name, value] of Object.entries(actual)) if (expected[name] === undefined) lines.push(`unexpected: ${name} = ${value}`);
    return lines;
}

/** The values that the agent would post of these samples. `counters` keeps the last reading of each counter. */
function posted(plugin, host, given, samples, counters) {
    const graphs = host.run(() => plugin.allGraphs(host.settings(plugin, given)));
    const rules = graphs.flatMap((graph) =>
        Object.entries(graph.metrics).map(([key, metric]) => [`${graph.name}.${key}`.split("."), metric]),
    );
    const values = {};
    for (const { name, value, unixSeconds, host: of } of samples) {
        const parts = name.split(".");
        const [, metric] = rules.find(
            ([pattern]) => pattern.length === parts.length && pattern.every((own, at) => own === "*" || own === "#" || own === parts[at]),
        );
        const key = of === undefined ? name : `${of}:${name}`;
        let own = Number(value);
        if (metric.reading !== "gauge") {
            const time = unixSeconds ?? host.now;
            const before = counters.get(key);
            counters.set(key, { value, time });
            own = growth(metric.reading, before, value, time);
        }
        if (own !== undefined) values[key] = own * (metric.scale ?? 1);
    }
    return values;
}

function growth(reading, before, value, time) {
    if (before === undefined || time - before.time < 1 || time - before.time > 600) return undefined;
    const isExact = typeof value === "bigint" && typeof before.value === "bigint";
    let grown = isExact ? Number(value - before.value) : Number(value) - Number(before.value);
    if (grown < 0 && reading === "per-minute-32" && grown + 2 ** 32 < 2 ** 31) grown += 2 ** 32;
    if (grown < 0) return undefined;
    if (reading === "delta") return grown;
    return (grown / (time - before.time)) * (reading === "per-second" ? 1 : 60);
}
