// The call itself, and the agent that makes it.

import * as wire from "#wire/call";
import { text } from "./check.js";

/** How many milliseconds are left until the call times out. */
export const remainingMs = () => Number(wire.remainingMs());
/** The minute that the call is for. */
export const minute = () => new Date(Number(wire.minute()) * 1_000);
/** A limit of the instance by its name in the operator's table, such as `samples`. Undefined if the agent has no such limit. */
export function limit(name) {
    const value = wire.limit(text(name, "a limit's name"));
    return value === undefined || value === null ? undefined : Number(value);
}
/** The agent's version. */
export const agentVersion = () => wire.agentVersion();
/** Whether the agent has a capability (`tcp`), or what came to one later (`tcp.is-local`). */
export const has = (feature) => wire.has(text(feature, "a feature"));
