// Small values that an instance keeps from call to call. What a call sets is saved when the call succeeds.

import * as wire from "#wire/kv";
import { bytes, text } from "./check.js";
import { optionalU64 } from "./engine.js";
import { passedOn } from "./errors.js";
import { decode } from "./utf8.js";

/** The bytes of `key`, if there are any. */
export function get(key) {
    const value = wire.get(text(key, "a key"));
    return value === undefined || value === null ? undefined : Uint8Array.from(value);
}

/** The text of `key`, if there is one. */
export function getText(key) {
    const value = get(key);
    return value === undefined ? undefined : decode(value);
}

/** Sets the value of `key`, text or bytes; with `lastsMs` it is gone after so many milliseconds. */
export function set(key, value, { lastsMs } = {}) {
    const data = bytes(value, `the value of \`${key}\``);
    passedOn(() => wire.set(text(key, "a key"), data, optionalU64(lastsMs)));
}

/** Deletes `key`, if it is there. */
export function remove(key) {
    wire.delete(text(key, "a key"));
}
export { remove as delete };

/** All keys that begin with `prefix`, sorted. */
export function keys(prefix = "") {
    return wire.keys(text(prefix, "a prefix"));
}

/**
 * How much each of these counters has grown since the previous call, for values that are computed from several of them, such as a ratio.
 * Undefined in the first call, and when a counter was reset, as by a restart of its server.
 */
export function growth(key, ...now) {
    const before = getText(key)?.split(" ").map(Number);
    set(key, now.join(" "));
    if (before?.length !== now.length) return undefined;
    const grown = now.map((value, at) => value - before[at]);
    return grown.every((value) => value >= 0) ? grown : undefined;
}
