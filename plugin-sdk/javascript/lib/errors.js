// Why something failed: what a plugin throws, and what a capability throws in it.

import { placeOf } from "./place.js";

/**
 * What the agent gets. The text is for the operator: it names the thing and, if possible, the cure, as a lower-case fragment. The
 * subclasses say who has to act. What a capability threw is passed on by not catching it.
 */
export class PluginError extends Error {
    constructor(message, { attributes = {}, cause } = {}) {
        super(String(message), cause === undefined ? undefined : { cause });
        this.attributes = attributes;
    }
    get name() {
        return this.constructor.title;
    }
    get kind() {
        return this.constructor.kind;
    }
}
PluginError.kind = "failed";
PluginError.title = "PluginError";

// The titles are written out, since names of classes do not survive each bundler.
function kind(title, word) {
    const Kind = class extends PluginError {};
    Kind.kind = word;
    Kind.title = title;
    return Kind;
}

export const Failed = /* @__PURE__ */ kind("Failed", "failed");
export const Misconfigured = /* @__PURE__ */ kind("Misconfigured", "misconfigured");
export const Unauthorized = /* @__PURE__ */ kind("Unauthorized", "unauthorized");
export const Unreachable = /* @__PURE__ */ kind("Unreachable", "unreachable");
export const Timeout = /* @__PURE__ */ kind("Timeout", "timeout");
export const Denied = /* @__PURE__ */ kind("Denied", "denied");
export const Unsupported = /* @__PURE__ */ kind("Unsupported", "unsupported");
export const Invalid = /* @__PURE__ */ kind("Invalid", "invalid");
export const TooLarge = /* @__PURE__ */ kind("TooLarge", "too-large");
export const TooCostly = /* @__PURE__ */ kind("TooCostly", "too-costly");
export const Full = /* @__PURE__ */ kind("Full", "full");

/** The target asked to be left alone for so many milliseconds: the agent skips the plugin until then, for an hour at most. */
export class Busy extends PluginError {
    constructor(message, waitMs, more) {
        super(message, more);
        this.waitMs = waitMs;
    }
}
Busy.kind = "unreachable";
Busy.title = "Busy";

/** A fault in the plugin's code, such as a name that nothing declares. The agent gets the file and line with it. */
export class Mistake extends Failed {}
Mistake.title = "Mistake";

export const KINDS = [Failed, Misconfigured, Unauthorized, Unreachable, Timeout, Denied, Unsupported, Invalid, TooLarge, TooCostly, Full];

/** The exception for an error of a capability, which names what it is `of`. */
export function fromWire(error, of = "") {
    const { kind: word, message: text, retryAfterMs, attributes } = error;
    // An agent names the target itself where it can; others leave it to the plugin.
    const message = of === "" || text.includes(of) ? text : `${of}: ${text}`;
    const more = { attributes: Object.fromEntries(attributes ?? []) };
    if (retryAfterMs !== null && retryAfterMs !== undefined) return new Busy(message, Number(retryAfterMs), more);
    return new (KINDS.find((Kind) => Kind.kind === word) ?? Failed)(message, more);
}

/** Calls a capability; what it returns as an error is thrown as one of these, which names what it is `of`. */
export function passedOn(work, of) {
    try {
        return work();
    } catch (error) {
        throw error?.payload?.kind === undefined ? error : fromWire(error.payload, of);
    }
}

/** What the agent gets about something that was thrown. */
export function told(error) {
    const wire = (kind, message, waitMs, attributes = {}) => ({ kind, message, waitMs, attributes: Object.entries(attributes) });
    // By what it has and not by its class: the tool and the plugin that it has bundled have a copy of the classes each.
    const isOurs = error instanceof Error && typeof error.kind === "string" && error.attributes !== undefined;
    if (isOurs && error.name === Mistake.title) return wire(error.kind, withPlace(error.message, error));
    if (isOurs) return wire(error.kind, error.message, error.waitMs, error.attributes);
    if (error?.payload?.kind !== undefined) return told(fromWire(error.payload));
    // What a library threw, or the plugin itself: name, message, and the author's line that led there.
    if (error instanceof Error) return wire("failed", withPlace(error.message ? `${error.name}: ${error.message}` : error.name, error));
    return wire("failed", `threw ${typeof error === "string" ? JSON.stringify(error) : String(error)}, which is not an Error`);
}

function withPlace(message, error) {
    const place = placeOf(error.stack);
    return place === undefined ? message : `${message} (${place})`;
}
