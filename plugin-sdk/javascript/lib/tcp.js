// Byte streams to what the operator granted: TCP, unix sockets, and TLS on top of either, which the agent speaks.

import { Connection as WireConnection, TlsOptions } from "#wire/tcp";
import { bytes, handle, text, whole } from "./check.js";
import { optionalU64 } from "./engine.js";
import { Failed, fromWire, passedOn } from "./errors.js";
import { decode } from "./utf8.js";

/** Connects to a host, which may be a name or an address, and a port. */
export function connect(host, port, { timeoutMs } = {}) {
    const peer = `${text(host, "a host")}:${whole(port, "a port", 65_535)}`;
    return new Connection(passedOn(() => WireConnection.connect(host, port, millis(timeoutMs)), peer), peer);
}

/** Connects to the unix socket of this path. */
export function connectUnix(path, { timeoutMs } = {}) {
    const peer = `unix:${text(path, "a path")}`;
    return new Connection(passedOn(() => WireConnection.connectUnix(path, millis(timeoutMs)), peer), peer);
}

/** A connection. The agent closes it at the end of the call, if `close` does not. */
export class Connection {
    #wire;
    #buffer = new Uint8Array(0);

    constructor(wire, peer) {
        this.#wire = wire;
        /** The other side, as in messages. */
        this.peer = peer;
    }

    /** Waits for data and returns what has arrived, `maxBytes` at most; nothing at the end of the stream. */
    receive(maxBytes = 65_536) {
        if (this.#buffer.length > 0) return this.#taken(Math.min(maxBytes, this.#buffer.length));
        return this.#received(whole(maxBytes, "a number of bytes", 0xffff_ffff));
    }

    /** A line without its end, as text; undefined at the end of the stream. */
    receiveLine() {
        for (let from = 0; ; ) {
            const end = this.#buffer.indexOf(10, from);
            if (end >= 0) return this.#text(this.#taken(end + 1));
            from = this.#buffer.length;
            if (!this.#more()) return from === 0 ? undefined : this.#text(this.#taken(from));
        }
    }

    /** Exactly so many bytes; `Failed` if the stream ends before. */
    receiveExactly(count) {
        while (this.#buffer.length < count) {
            if (!this.#more()) throw new Failed(`${this.peer} ended after ${this.#buffer.length} of ${count} bytes`);
        }
        return this.#taken(count);
    }

    /** All bytes up to the end of the stream. */
    receiveAll() {
        while (this.#more());
        return this.#taken(this.#buffer.length);
    }

    /** Sends all of it, text or bytes. */
    send(data) {
        const sent = bytes(data, "what is sent");
        passedOn(() => this.#open().write(sent), this.peer);
    }

    /** Sends `prefix`, the secret and `suffix`. */
    sendSecret(prefix, secret, suffix = "") {
        const [before, after] = [bytes(prefix, "a prefix"), bytes(suffix, "a suffix")];
        passedOn(() => this.#open().writeSecret(before, handle(secret), after), this.peer);
    }

    /** Whether the peer is on this machine: a unix socket, or a loopback address. */
    isLocal() {
        return this.#open().isLocal();
    }

    /** Closes the sending side; receiving still works. */
    finish() {
        passedOn(() => this.#open().finish(), this.peer);
    }

    /**
     * Upgrades to TLS. The name on the certificate is that of the host that was connected to, unless `serverName` is another. An error has
     * the peer's certificates as `chain`; the connection is then closed.
     */
    startTls({ serverName, alpn = [] } = {}) {
        const options = new TlsOptions();
        if (serverName !== undefined) options.setServerName(text(serverName, "a name"));
        if (alpn.length > 0) options.setAlpn(alpn.map((protocol) => text(protocol, "a protocol")));
        try {
            const { protocol, alpn: chosen, verified, chain } = this.#open().startTls(options);
            return { protocol, alpn: chosen ?? undefined, verified, chain };
        } catch (failure) {
            if (failure?.payload?.error === undefined) throw failure;
            throw Object.assign(fromWire(failure.payload.error, this.peer), { chain: failure.payload.chain });
        }
    }

    /** Sets a timeout in milliseconds for each operation from now on. Undefined, as at first: none but the call's own. */
    setTimeout(timeoutMs) {
        this.#open().setTimeout(millis(timeoutMs));
    }

    /** Closes it. */
    close() {
        const wire = this.#wire;
        this.#wire = undefined;
        wire?.[Symbol.dispose ?? Symbol.for("dispose")]?.();
    }

    #open() {
        if (this.#wire === undefined) throw new Failed(`the connection with ${this.peer} is closed`);
        return this.#wire;
    }

    #received(maxBytes) {
        return Uint8Array.from(passedOn(() => this.#open().read(maxBytes), this.peer));
    }

    #more() {
        const data = this.#received(65_536);
        const both = new Uint8Array(this.#buffer.length + data.length);
        both.set(this.#buffer);
        both.set(data, this.#buffer.length);
        this.#buffer = both;
        return data.length > 0;
    }

    #taken(count) {
        const data = this.#buffer.slice(0, count);
        this.#buffer = this.#buffer.slice(count);
        return data;
    }

    #text(line) {
        const found = decode(line);
        if (found === undefined) throw new Failed(`${this.peer} sent a line that is not UTF-8 text`);
        return found.replace(/\r?\n$/, "");
    }
}

/** Less than a millisecond is rounded up: 0 would be at once. */
function millis(timeoutMs) {
    return optionalU64(timeoutMs === undefined ? undefined : Math.max(1, Math.round(timeoutMs)));
}
