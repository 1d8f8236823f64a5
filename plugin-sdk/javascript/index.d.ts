// Types of the SDK. What the contract says about each kind, unit and error is in `wit/`.

export type Unit =
    | "float"
    | "integer"
    | "percentage"
    | "seconds"
    | "milliseconds"
    | "bytes"
    | "bytes-per-second"
    | "bits-per-second"
    | "iops";

/** What a plugin reaches through capabilities; everything else is denied to it. */
export type Reach = "http" | "tcp" | "unix" | "file";

/** The value of a setting of kind `endpoint`, as the operator wrote it: an IPv6 address is in brackets. */
export interface Endpoint {
    host: string;
    port: number;
}

declare const value: unique symbol;

interface Help {
    /** One sentence for the operator, lower case, without a full stop. */
    help?: string;
}
interface Optional extends Help {
    default?: undefined;
    required?: false;
    repeatable?: false;
}
interface Required extends Help {
    default?: undefined;
    required: true;
    repeatable?: false;
}
interface Defaulted<D> extends Help {
    /** The value if the operator sets none. */
    default: D;
    repeatable?: false;
}
interface Repeatable<D> extends Help {
    default?: D;
    required?: boolean;
    repeatable: true;
}

/** A setting; `T` is the type of its value. Its key is that of the object that it is written in: `tlsSkipVerify` is `tls-skip-verify`. */
export class Setting<T = unknown> {
    private constructor();
    readonly [value]: T;
    readonly kind: string;

    /** Any text. */
    static text(options: Required | Defaulted<string>): Setting<string>;
    static text(options: Repeatable<string>): Setting<string[]>;
    static text(options?: Optional): Setting<string | undefined>;
    /** Any text that the agent never shows; the plugin gets a `Secret`. It has no default. */
    static secret(options: Required): Setting<Secret>;
    static secret(options: Repeatable<never>): Setting<Secret[]>;
    static secret(options?: Optional): Setting<Secret | undefined>;
    /** A whole number of 64 bits, with sign; beyond 2^53 `Settings.text` has all digits. */
    static integer(options: Required | Defaulted<number | string>): Setting<number>;
    static integer(options: Repeatable<number | string>): Setting<number[]>;
    static integer(options?: Optional): Setting<number | undefined>;
    /** A decimal number. */
    static number(options: Required | Defaulted<number | string>): Setting<number>;
    static number(options: Repeatable<number | string>): Setting<number[]>;
    static number(options?: Optional): Setting<number | undefined>;
    /** `true` or `false`. */
    static boolean(options?: Help & { default?: boolean }): Setting<boolean>;
    /** A length of time, `500ms`, `10s`, `5m`; its value is in milliseconds. */
    static duration(options: Required | Defaulted<string>): Setting<number>;
    static duration(options?: Optional): Setting<number | undefined>;
    /** An absolute http or https URL, and the grant to fetch from there. */
    static url(options: Required | Defaulted<string>): Setting<string>;
    static url(options: Repeatable<string>): Setting<string[]>;
    static url(options?: Optional): Setting<string | undefined>;
    /** A host and a port, `db:5432`, and the grant to connect there. */
    static endpoint(options: Required | Defaulted<string>): Setting<Endpoint>;
    static endpoint(options: Repeatable<string>): Setting<Endpoint[]>;
    static endpoint(options?: Optional): Setting<Endpoint | undefined>;
    /** A host name or IP address; together with the `port` that is `of` it, a grant. */
    static host(options: Required | Defaulted<string>): Setting<string>;
    static host(options?: Optional): Setting<string | undefined>;
    /** A TCP port; together with the host that it is `of`, a grant. */
    static port(options: (Required | Defaulted<number>) & { of?: string }): Setting<number>;
    static port(options?: Optional & { of?: string }): Setting<number | undefined>;
    /** The absolute path of a unix socket, and the grant to connect to it. */
    static unixSocket(options: Required | Defaulted<string>): Setting<string>;
    static unixSocket(options?: Optional): Setting<string | undefined>;
    /** The absolute path of a file, and the grant to read it. */
    static file(options: Required | Defaulted<string>): Setting<string>;
    static file(options: Repeatable<string>): Setting<string[]>;
    static file(options?: Optional): Setting<string | undefined>;
    /** With `true` the agent accepts any certificate on this instance's connections. */
    static tlsSkipVerify(options?: Help & { default?: boolean }): Setting<boolean>;
    /** How a connection uses TLS: `off`, `encrypt`, `ca` or `full`, and `aliases` of them. */
    static tlsMode(options: (Required | Defaulted<string>) & { aliases?: Record<string, string> }): Setting<string>;
    static tlsMode(options?: Optional & { aliases?: Record<string, string> }): Setting<string | undefined>;
}

type Declared = Record<string, Setting<any>>;

/** The values of settings, in the types of their kinds. */
export type Values<S extends Declared> = { readonly [K in keyof S]: S[K] extends Setting<infer T> ? T : never };

/** The same settings by key. A key that is not declared is the author's mistake. */
export class Settings<S extends Declared = Declared> {
    private constructor();
    /** The value as text, if it is set and not a secret. */
    get(key: keyof S & string): string | undefined;
    /** The value as text; `Misconfigured` if it is not set. */
    text(key: keyof S & string): string;
    /** Each value of a repeatable setting as text, in the operator's order. */
    all(key: keyof S & string): string[];
    /** The secret, if it is set and not empty. */
    secret(key: keyof S & string): Secret | undefined;
    /** Each value of a repeatable secret, in the operator's order. */
    secrets(key: keyof S & string): Secret[];
    /** The value, which must be one of `valid`. */
    oneOf<V extends string>(key: keyof S & string, valid: readonly V[]): V;
    /** The values of a repeatable setting, each of which must be one of `valid`. */
    someOf<V extends string>(key: keyof S & string, valid: readonly V[]): V[];
}

/** A secret. Put it into a header (`http`), a message (`tcp`) or a proof (`crypto`). Printing it shows nothing of it. */
export class Secret {
    private constructor();
    /** Its length in bytes, as for a message that announces it. */
    readonly length: number;
    /** Its text; `Denied` unless the operator's table has `reveal = true`. */
    reveal(): string;
}

/** What is a value of a sample: a BigInt is exact up to 2^64 (in QuickJS up to 2^53), `true` is 1. */
export type Reading = number | bigint | boolean;

interface MetricOptions {
    /** Stacks it on the graph's other stacked metrics. */
    stacked?: boolean;
    /** Multiplies the value last. */
    scale?: number;
}

/** A line of a graph. Its name is that of the object that it is written in. */
export class Metric {
    private constructor();
    readonly reading: string;
    readonly label: string;
}

/** A reading that is posted as it is. */
export function gauge(label?: string, options?: MetricOptions): Metric;
/** A counter whose growth per minute is posted. */
export function perMinute(label?: string, options?: MetricOptions): Metric;
/** A counter whose growth per second is posted. */
export function perSecond(label?: string, options?: MetricOptions): Metric;
/** A counter whose growth since the previous call is posted. */
export function delta(label?: string, options?: MetricOptions): Metric;
/** A counter that wraps at 2^32, whose growth per minute is posted. */
export function perMinute32(label?: string, options?: MetricOptions): Metric;

/** A graph on Mackerel. `name`: segments joined by dots, without `custom.`; a segment may be `*`, and one `#`. */
export class Graph<M extends Record<string, Metric> = Record<string, Metric>> {
    constructor(name: string, label: string, unit: Unit, metrics: M);
    readonly name: string;
    /** The sample of one metric; under a name with wildcards, with a text for each. */
    sample(metric: keyof M & string, value: Reading, ...segments: string[]): Sample;
    /** The samples of several metrics by their names. One that is `undefined` has no value, and so no sample; `null` is a mistake. */
    samples(values: { readonly [K in keyof M]?: Reading | undefined }, ...segments: string[]): Sample[];
}

/** A text as one segment of a metric's name: each character that Mackerel does not accept there becomes `_`. */
export function segment(text: string): string;

/** The reading `value` of the metric with this full name: the graph's name, a dot, the metric's name. */
export class Sample {
    constructor(name: string, value: Reading, options?: { at?: Date | number; host?: string; labels?: Record<string, string> });
    readonly name: string;
    readonly value: number | bigint;
    /** The same sample, read at this time, a `Date` or seconds since 1970. The agent drops what is more than 23 hours old. */
    at(time: Date | number): this;
    /** The same sample for the host with this custom identifier on Mackerel, which the operator must list in `hosts`. */
    ofHost(customIdentifier: string): this;
    /** The same sample with a label more. Mackerel has none. */
    label(key: string, value: string): this;
}

/** A target that failed while others did not, in the operator's words; and why. */
export class Problem {
    constructor(target: string, error: unknown);
    readonly target: string;
    readonly error: unknown;
}

/** What `collect` gives: samples, pairs of name and value, problems, and lists of them, by `return` or by `yield`. */
export type Readings = Sample | Problem | readonly [string, Reading] | Iterable<Readings>;

/** A check's result: a status, and the message that the operator reads in the alert. One of several has a name. */
export class Report {
    constructor(status: "ok" | "warning" | "critical" | "unknown", message: string, options?: { name?: string });
    static ok(message: string, options?: { name?: string }): Report;
    static warning(message: string, options?: { name?: string }): Report;
    static critical(message: string, options?: { name?: string }): Report;
    static unknown(message: string, options?: { name?: string }): Report;
    readonly status: "ok" | "warning" | "critical" | "unknown";
    readonly message: string;
    readonly name: string;
}

/** A value for JSON about the host. `namespace` is empty for the table's own name, or begins with that name and `-`. */
export class Document {
    constructor(value: unknown, namespace?: string);
    readonly json: string;
    readonly namespace: string;
}

export interface Definition<S extends Declared> {
    /** Letters, digits, `-` and `_`, at most 64. */
    name: string;
    version: string;
    /** One line: what it collects. */
    summary: string;
    reaches?: readonly Reach[];
    settings?: S;
    graphs?: readonly Graph<any>[];
    /** Graphs that depend on an instance's settings, for example on a prefix. */
    graphsBySettings?(values: Values<S>, settings: Settings<S>): readonly Graph<any>[];
    /** Reads the metrics. */
    collect?(values: Values<S>, settings: Settings<S>): Readings;
    /** Checks. */
    check?(values: Values<S>, settings: Settings<S>): Report | Iterable<Report>;
    /** Returns what becomes JSON, or several documents. */
    metadata?(values: Values<S>, settings: Settings<S>): unknown;
    /** An SPDX expression. */
    license?: string;
    homepage?: string;
    /** How often it should be asked. */
    intervalSeconds?: number;
    /** How long a call may take. */
    timeoutSeconds?: number;
    /** The oldest version of the agent that it works with. */
    agent?: string;
    attributes?: Record<string, string>;
}

/** A plugin: the default export of the file that is built. */
export class Plugin<S extends Declared = {}> {
    constructor(definition: Definition<S>);
    readonly name: string;
}

/** What the agent gets. The text is for the operator: it names the thing and, if possible, the cure, as a lower-case fragment. */
export class PluginError extends Error {
    constructor(message: string, options?: { attributes?: Record<string, string>; cause?: unknown });
    readonly kind: string;
    /** Facts for code to decide by: `tls` is `certificate`, `alert` or `not-tls`. */
    readonly attributes: Record<string, string>;
}
/** Anything else: the target's answer is unusable. */
export class Failed extends PluginError {}
/** The settings cannot work: the operator has to fix them. */
export class Misconfigured extends PluginError {}
/** The target refuses the user, the password or the certificate: the operator has to fix them. */
export class Unauthorized extends PluginError {}
/** The target does not answer: it is down, or the network is. */
export class Unreachable extends PluginError {}
/** The target does not answer in time. */
export class Timeout extends PluginError {}
/** The agent refused a capability: a grant is missing. */
export class Denied extends PluginError {}
/** The target is too old, too new, or another thing than the plugin knows. */
export class Unsupported extends PluginError {}
/** A request that makes no sense: a fault of the plugin, or a setting that it passed on unchecked. */
export class Invalid extends PluginError {}
/** Larger than the agent allows. */
export class TooLarge extends PluginError {}
/** More work than the agent does for a call. */
export class TooCostly extends PluginError {}
/** No room for what should be stored. */
export class Full extends PluginError {}
/** The target asked to be left alone for so many milliseconds: the agent skips the plugin until then, for an hour at most. */
export class Busy extends PluginError {
    constructor(message: string, waitMs: number, options?: { attributes?: Record<string, string>; cause?: unknown });
    readonly waitMs: number;
}
/** A fault in the plugin's code. The agent gets the file and line with it. */
export class Mistake extends Failed {}

/**
 * What `work` gives, and the metric of the graph: 1 if the target answered; 0, alone, if it did not answer or its answer is unusable. That
 * is then not an error of the plugin any more, but logged when it begins, and when the target recovers.
 */
export function up<M extends Record<string, Metric>>(graph: Graph<M>, metric: keyof M & string, work: () => Iterable<Readings>): Readings;

/** As `log.warning`, but at most once a day for each `topic`: for problems that persist until the operator acts. */
export function warningDaily(topic: string, line: string): void;

/**
 * How much each of these counters has grown since the previous call, for ratios. Undefined in the first call, and when a counter was
 * reset.
 */
export function growth(key: string, ...now: number[]): number[] | undefined;

/** HTTP requests to what the operator granted. The agent speaks HTTP and TLS. */
export namespace http {
    /** A GET request, which `send`, `ok`, `text` or `json` sends. */
    function get(url: string): Request;
    function head(url: string): Request;
    function post(url: string, body?: string | Uint8Array): Request;
    /** A request with another method: `PUT`, `PATCH`, `DELETE`, `OPTIONS`. */
    function request(method: string, url: string): Request;

    class Request {
        constructor(method: string, url: string);
        readonly method: string;
        readonly url: string;
        /** Sets a header, unless the value is undefined; of those with one name the last counts. */
        header(name: string, value: string | undefined): this;
        /** Sets a header to `prefix` and a secret, unless that is undefined. */
        headerSecret(name: string, secret: Secret | undefined, options?: { prefix?: string }): this;
        /** Sets the header `authorization` to `Bearer ` and a secret, unless that is undefined. */
        bearer(token: Secret | undefined): this;
        /** Sets the header `authorization` for this user and password, unless that is undefined. */
        basicAuth(user: string, password: Secret | undefined): this;
        /** Sets the headers in a secret that has lines of `Name: value`, unless that is undefined. */
        headerLines(lines: Secret | undefined): this;
        body(body: string | Uint8Array): this;
        /** Sets the body to JSON, and the header `content-type`. */
        jsonBody(value: unknown): this;
        /** Follows redirects, `limit` at most; secrets are not sent to another server. Each redirect needs its own grant. */
        follow(limit: number): this;
        /** Whether it will be sent with a header of this name. */
        hasHeader(name: string): boolean;
        /** Sends it and waits for the whole response, whatever its status. */
        send(): Response;
        /** As `send`; an answer that is not 2xx is an error that names the page. */
        ok(): Response;
        /** The text of an answer that must be 2xx. */
        text(): string;
        /** The JSON of an answer that must be 2xx; see `Response.json`. */
        json<T = any>(options?: { exact?: boolean }): T;
    }

    class Response {
        private constructor();
        readonly url: string;
        readonly status: number;
        /** Names in lower case, values as received, in the server's order. */
        readonly headers: readonly (readonly [string, Uint8Array])[];
        readonly body: Uint8Array;
        /** The first header of this name, if it is text. */
        header(name: string): string | undefined;
        /** Itself, if its status is 2xx; else an error that names the page. */
        ok(): this;
        text(): string;
        /**
         * The body as JSON. A number has whole numbers exactly up to 2^53; with `exact`, those beyond are BigInts, which arithmetic does not mix
         * with numbers.
         */
        json<T = any>(options?: { exact?: boolean }): T;
    }
}

/** Byte streams to what the operator granted: TCP, unix sockets, and TLS on top of either, which the agent speaks. */
export namespace tcp {
    function connect(host: string, port: number, options?: { timeoutMs?: number }): Connection;
    function connectUnix(path: string, options?: { timeoutMs?: number }): Connection;

    interface TlsInfo {
        /** `TLSv1.3`, `TLSv1.2`. */
        protocol: string;
        alpn: string | undefined;
        /** What of the certificate was verified: `encrypt`, nothing; `ca`, who signed it; `full`, also the name. */
        verified: string;
        /** The peer's certificates in DER, its own first. */
        chain: Uint8Array[];
    }

    class Connection {
        private constructor();
        readonly peer: string;
        /** Waits for data and returns what has arrived, `maxBytes` at most; nothing at the end of the stream. */
        receive(maxBytes?: number): Uint8Array;
        /** A line without its end, as text; undefined at the end of the stream. */
        receiveLine(): string | undefined;
        /** Exactly so many bytes; `Failed` if the stream ends before. */
        receiveExactly(count: number): Uint8Array;
        /** All bytes up to the end of the stream. */
        receiveAll(): Uint8Array;
        send(data: string | Uint8Array): void;
        /** Sends `prefix`, the secret and `suffix`. */
        sendSecret(prefix: string | Uint8Array, secret: Secret, suffix?: string | Uint8Array): void;
        /** Whether the peer is on this machine: a unix socket, or a loopback address. */
        isLocal(): boolean;
        /** Closes the sending side; receiving still works. */
        finish(): void;
        /** Upgrades to TLS. An error has the peer's certificates as `chain`; the connection is then closed. */
        startTls(options?: { serverName?: string; alpn?: readonly string[] }): TlsInfo;
        /** Sets a timeout in milliseconds for each operation from now on. Undefined, as at first: none but the call's own. */
        setTimeout(timeoutMs: number | undefined): void;
        close(): void;
    }
}

/** Small values that an instance keeps from call to call. What a call sets is saved when the call succeeds. */
export namespace kv {
    export function get(key: string): Uint8Array | undefined;
    export function getText(key: string): string | undefined;
    /** With `lastsMs` the value is gone after so many milliseconds. */
    export function set(key: string, value: string | Uint8Array, options?: { lastsMs?: number }): void;
    export function remove(key: string): void;
    export { remove as delete };
    /** All keys that begin with `prefix`, sorted. */
    export function keys(prefix?: string): string[];
    export function growth(key: string, ...now: number[]): number[] | undefined;
}

/** Lines in the agent's log, for what is not an error. `console` writes here, too. */
export namespace log {
    function debug(line: string): void;
    function info(line: string): void;
    function warning(line: string): void;
    function error(line: string): void;
}

/** Reading the files that the operator granted by settings of kind `file`. */
export namespace files {
    function open(path: string): File;
    /** The whole file, if it has at most `maxBytes` bytes. */
    function read(path: string, maxBytes: number): Uint8Array;
    function readText(path: string, maxBytes: number): string;

    class File {
        private constructor();
        readonly path: string;
        /** One that took its place, as after a rotation, has another id. */
        stat(): { size: number; modified: Date; id: string };
        /** At most `maxBytes` bytes from `offset` on; none past the end. */
        readAt(offset: number, maxBytes: number): Uint8Array;
    }
}

/** What log-ins compute from a secret. The agent does it, since it has the secret's text. */
export namespace crypto {
    function scramSha256(
        password: Secret,
        salt: string | Uint8Array,
        iterations: number,
        authMessage: string,
    ): { clientProof: Uint8Array; serverSignature: Uint8Array };
    function postgresMd5(password: Secret, user: string, salt: string | Uint8Array): string;
}

/** The call itself, and the agent that makes it. */
export namespace call {
    function remainingMs(): number;
    function minute(): Date;
    /** A limit of the instance by its name in the operator's table, such as `samples`. */
    function limit(name: string): number | undefined;
    function agentVersion(): string;
    /** Whether the agent has a capability (`tcp`), or what came to one later (`tcp.is-local`). */
    function has(feature: string): boolean;
}

/** UTF-8, fast in QuickJS. */
export namespace utf8 {
    /** Text of bytes; `undefined` if they are not UTF-8, or U+FFFD for what is not. */
    function decode(bytes: Uint8Array, options?: { isLenient?: boolean }): string | undefined;
    function encode(text: string): Uint8Array;
}
