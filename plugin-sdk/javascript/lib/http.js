// HTTP requests to what the operator granted. The agent speaks HTTP and TLS; it does not follow redirects, `Request.follow` does.

import { Request as WireRequest, send } from "#wire/http";
import { bytes, handle, text } from "./check.js";
import { Busy, Failed, Unauthorized, passedOn } from "./errors.js";
import { decode } from "./utf8.js";

const REDIRECTS = [301, 302, 303, 307, 308];

// What was meant for one server only.
const PRIVATE = ["authorization", "cookie", "host"];

/** A GET request, which `send`, `ok`, `text` or `json` sends. */
export const get = (url) => new Request("GET", url);
/** A HEAD request. */
export const head = (url) => new Request("HEAD", url);
/** A POST request. */
export const post = (url, body = "") => new Request("POST", url).body(body);
/** A request with another method: `PUT`, `PATCH`, `DELETE`, `OPTIONS`. */
export const request = (method, url) => new Request(method, url);

/** A request. Each function but the last ones returns the request itself. */
export class Request {
    #headers = [];
    #body;
    #redirects = 0;

    constructor(method, url) {
        this.method = text(method, "a method");
        this.url = text(url, "a URL");
    }

    /** Sets a header, unless the value is undefined; of those with one name the last counts. */
    header(name, value) {
        if (value !== undefined && value !== null) this.#add("setHeader", text(name, "a header's name"), text(value, `the header \`${name}\``));
        return this;
    }

    /** Sets a header to `prefix` and a secret, unless that is undefined. */
    headerSecret(name, secret, { prefix = "" } = {}) {
        if (secret !== undefined && secret !== null) this.#add("setHeaderSecret", text(name, "a header's name"), text(prefix, "a prefix"), handle(secret));
        return this;
    }

    /** Sets the header `authorization` to `Bearer ` and a secret, unless that is undefined. */
    bearer(token) {
        return this.headerSecret("authorization", token, { prefix: "Bearer " });
    }

    /** Sets the header `authorization` for this user and password, unless that is undefined. */
    basicAuth(user, password) {
        if (password !== undefined && password !== null) this.#add("setBasicAuth", text(user, "a user"), handle(password));
        return this;
    }

    /** Sets the headers in a secret that has lines of `Name: value`, unless that is undefined. */
    headerLines(lines) {
        if (lines !== undefined && lines !== null) this.#add("setHeaderLines", handle(lines));
        return this;
    }

    /** Sets the body. */
    body(body) {
        this.#body = bytes(body, "a body");
        return this;
    }

    /** Sets the body to JSON, and the header `content-type`. */
    jsonBody(value) {
        return this.header("content-type", "application/json").body(JSON.stringify(value));
    }

    /**
     * Follows redirects, `limit` at most: with GET, without the body, and to another server without secrets and without the headers
     * `authorization`, `cookie` and `host`, which were meant for the first. Each redirect needs its own grant.
     */
    follow(limit) {
        this.#redirects = limit;
        return this;
    }

    /** Whether it will be sent with a header of this name: `authorization` also if the operator's URL has a user. */
    hasHeader(name) {
        return passedOn(() => this.#built().hasHeader(text(name, "a header's name")), origin(this.url));
    }

    /** Sends it and waits for the whole response, whatever its status. */
    send() {
        let request = this;
        for (let left = this.#redirects; ; left -= 1) {
            const response = request.#sent();
            const target = REDIRECTS.includes(response.status) ? response.header("location") : undefined;
            if (target === undefined || this.#redirects === 0) return response;
            if (left === 0) throw new Failed(`more than ${this.#redirects} redirects from ${page(this.url)}`);
            request = request.redirected(resolved(request.url, target));
        }
    }

    /** As `send`; an answer that is not 2xx is an error that names the page. */
    ok() {
        return this.send().ok();
    }

    /** The text of an answer that must be 2xx. */
    text() {
        return this.ok().text();
    }

    /** The JSON of an answer that must be 2xx; see `Response.json`. */
    json(options) {
        return this.ok().json(options);
    }

    /** The request that a redirect to this URL leads to. */
    redirected(url) {
        const next = new Request("GET", url);
        const isSame = origin(url) === origin(this.url);
        next.#headers = this.#headers.filter(
            ([kind, name]) => isSame || (kind === "setHeader" && !PRIVATE.includes(name.toLowerCase())),
        );
        return next;
    }

    #add(...header) {
        this.#headers.push(header);
    }

    #sent() {
        return passedOn(() => {
            const response = send(this.#built());
            return new Response(this.url, response.status(), response.headers(), response.body());
        }, origin(this.url));
    }

    #built() {
        const wire = new WireRequest(this.method, this.url);
        for (const [kind, ...values] of this.#headers) wire[kind](...values);
        if (this.#body !== undefined) wire.setBody(this.#body);
        return wire;
    }
}

/** A server's response. */
export class Response {
    constructor(url, status, headers, body) {
        this.url = url;
        this.status = status;
        /** Names in lower case, values as bytes as received, in the server's order. */
        this.headers = headers;
        /** The whole body. */
        this.body = body;
    }

    /** The first header of this name, if it is text. */
    header(name) {
        const found = this.headers.find(([own]) => own === name.toLowerCase());
        return found === undefined ? undefined : decode(Uint8Array.from(found[1]));
    }

    /** Itself, if its status is 2xx; else an error that names the page. */
    ok() {
        if (this.status >= 200 && this.status < 300) return this;
        const message = `${page(this.url)} answers with status ${this.status}`;
        const wait = this.header("retry-after") ?? "";
        if ((this.status === 429 || this.status === 503) && /^\d+$/.test(wait)) throw new Busy(message, Number(wait) * 1_000);
        throw new (this.status === 401 || this.status === 403 ? Unauthorized : Failed)(message);
    }

    /** The body as text. */
    text() {
        const text = decode(this.body);
        if (text === undefined) throw new Failed(`${page(this.url)} is not UTF-8 text`);
        return text;
    }

    /** The body as JSON. If it is `exact`, whole numbers beyond 2^53 are BigInts. */
    json({ exact = false } = {}) {
        const text = this.text();
        try {
            return exact ? parsedExactly(text) : JSON.parse(text);
        } catch (error) {
            throw new Failed(`${page(this.url)} is not JSON: ${error.message}`);
        }
    }
}

/** As `JSON.parse`, but whole numbers that a number does not have exactly are BigInts. */
function parsedExactly(text) {
    if (!/\d{16}/.test(text)) return JSON.parse(text);
    // Such a number becomes a text that begins with NUL, and that a BigInt.
    const marked = text.replace(/"[^"\\]*(?:\\.[^"\\]*)*"|-?\d[\d.eE+-]*/g, (token) =>
        /^-?[1-9]\d{15,}$/.test(token) && !Number.isSafeInteger(Number(token)) ? `"\\u0000${token}"` : token,
    );
    return JSON.parse(marked, (_, value) => (typeof value === "string" && /^\0-?\d{16,}$/.test(value) ? BigInt(value.slice(1)) : value));
}

/** Scheme, host and port, as written. */
function origin(url) {
    const match = /^([a-z]+:\/\/)(?:[^/\\?#]*@)?([^/\\?#]*)/i.exec(url);
    return match === null ? url : match[1] + match[2];
}

/** A URL as messages show it: without what may be private. */
function page(url) {
    const match = /^[a-z]+:\/\/[^/\\?#]*([^?#]*)/i.exec(url);
    return origin(url) + (match === null ? "" : match[1]);
}

/** Where a redirect leads to, as an absolute URL. */
function resolved(url, target) {
    if (/^[a-z][a-z0-9+.-]*:/i.test(target)) return target;
    const scheme = url.slice(0, url.indexOf("//"));
    if (target.startsWith("//")) return scheme + target;
    const start = /^[a-z]+:\/\/[^/\\?#]*/i.exec(url)[0];
    if (target.startsWith("/")) return start + target;
    const path = url.slice(start.length).split(/[?#]/)[0];
    if (target.startsWith("?")) return start + path + target;
    const [names, ...query] = target.split(/(?=[?#])/);
    const parts = path.slice(0, path.lastIndexOf("/") + 1).split("/").slice(1, -1);
    for (const name of names.split("/")) {
        if (name === "..") parts.pop();
        else if (name !== ".") parts.push(name);
    }
    return `${start}/${parts.join("/")}${query.join("")}`;
}
