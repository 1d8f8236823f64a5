// What differs between the engines: QuickJS takes and gives 64-bit integers as numbers, StarlingMonkey as BigInts.

const isQuickJs = () => globalThis.__cqjs !== undefined;

/** A 64-bit integer for the agent. Beyond 2^53 QuickJS hands over the nearest double. */
export function u64(value) {
    return isQuickJs() ? Number(value) : BigInt(typeof value === "number" ? Math.round(value) : value);
}

/** The same, of what may be missing. */
export function optionalU64(value) {
    return value === undefined || value === null ? undefined : u64(value);
}
