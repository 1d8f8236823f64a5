// Arguments of the wrong type are reported with the author's line: the engine would crash without a word about whose they are.

import { Mistake } from "./errors.js";
import { Secret } from "./secret.js";
import { encode } from "./utf8.js";

export function text(value, what) {
    if (typeof value === "string") return value;
    throw new Mistake(`${what} must be a text, not ${shown(value)}`);
}

export function bytes(value, what) {
    if (value instanceof Uint8Array) return value;
    if (typeof value === "string") return encode(value);
    throw new Mistake(`${what} must be a text or a Uint8Array, not ${shown(value)}`);
}

export function whole(value, what, most) {
    if (Number.isInteger(value) && value >= 0 && value <= most) return value;
    throw new Mistake(`${what} must be a whole number from 0 to ${most}, not ${shown(value)}`);
}

export function handle(value) {
    if (value instanceof Secret) return value.wire();
    throw new Mistake(`this takes a secret, the value of a setting of that kind, not ${shown(value)}`);
}

/** A value as messages show it. */
export function shown(value) {
    if (typeof value === "string") return JSON.stringify(value);
    if (typeof value === "function") return "a function";
    if (value === null || typeof value !== "object") return String(value);
    return Array.isArray(value) ? "an array" : `an object (${value.constructor?.name ?? "without prototype"})`;
}
