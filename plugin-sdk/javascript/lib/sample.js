// What a call has read: samples, and the targets without.

import { shown, text } from "./check.js";
import { Mistake } from "./errors.js";

// While `collect` runs: the names that its samples may have.
let names;

/** Calls `collect` with the names of its graphs. */
export function withNames(own, work) {
    names = own;
    try {
        return work();
    } finally {
        names = undefined;
    }
}

/**
 * The reading `value` of the metric with this full name: the graph's name, a dot, the metric's name. A BigInt is exact up to 2^64, `true`
 * is 1.
 */
export class Sample {
    constructor(name, value, { at, host, labels = {} } = {}) {
        this.name = text(name, "a sample's name");
        if (names !== undefined && !names().has(this.name)) {
            throw new Mistake(`no graph of the plugin has the sample \`${this.name}\`: they have ${names()}`);
        }
        this.value = number(name, value);
        this.unixSeconds = at === undefined ? undefined : seconds(at);
        this.host = host;
        this.labels = labels;
    }

    /** A sample whose name is known to be one of a graph. */
    static known(name, value) {
        const sample = Object.create(Sample.prototype);
        sample.name = name;
        sample.value = number(name, value);
        sample.unixSeconds = sample.host = undefined;
        sample.labels = {};
        return sample;
    }

    /** The same sample, read at this time, a `Date` or seconds since 1970. The agent drops what is more than 23 hours old. */
    at(time) {
        this.unixSeconds = seconds(time);
        return this;
    }

    /** The same sample for the host with this custom identifier on Mackerel, which the operator must list in `hosts`. */
    ofHost(customIdentifier) {
        this.host = text(customIdentifier, "a host");
        return this;
    }

    /** The same sample with a label more. Mackerel has none. */
    label(key, value) {
        this.labels = { ...this.labels, [key]: text(value, "a label") };
        return this;
    }
}

function seconds(time) {
    const value = time instanceof Date ? Math.floor(time.getTime() / 1_000) : time;
    if (Number.isFinite(value) && value >= 0) return Math.floor(value);
    throw new Mistake(`a time must be a Date or seconds since 1970, not ${shown(time)}`);
}

function number(name, value) {
    if (typeof value === "number" && Number.isFinite(value)) return value;
    if (typeof value === "bigint") return value >= 0n && value < 1n << 64n ? value : Number(value);
    if (typeof value === "boolean") return value ? 1 : 0;
    const cure = value === undefined || value === null || typeof value === "number" ? ": leave out what has no value" : "";
    throw new Mistake(`the value of sample \`${name}\` must be a number, not ${shown(value)}${cure}`);
}

/** A target without samples, of several, in the operator's words; and why. */
export class Problem {
    constructor(target, error) {
        this.target = String(target);
        this.error = error;
    }
}

// A pair has no line of its own, so a mistake in it says at least where it came from.
function pair([name, value]) {
    try {
        return new Sample(name, value);
    } catch (error) {
        if (error instanceof Mistake) error.message += ", in what `collect` gave";
        throw error;
    }
}

/** Samples and problems out of what `collect` gave: these, pairs of name and value, arrays and iterables of them. */
export function readings(given) {
    const read = { samples: [], problems: [] };
    if (given === undefined || given === null) throw new Mistake("`collect` returned nothing: return samples");
    add(read, given);
    return read;
}

function add(read, given) {
    if (given instanceof Sample) read.samples.push(given);
    else if (given instanceof Problem) read.problems.push(given);
    else if (Array.isArray(given) && given.length === 2 && typeof given[0] === "string") read.samples.push(pair(given));
    else if (typeof given?.then === "function") throw new Mistake("`collect` is async: what the capabilities do needs no await, so leave `async` out");
    else if (typeof given === "object" && given !== null && typeof given[Symbol.iterator] === "function") for (const one of given) add(read, one);
    else throw new Mistake(`\`collect\` must give samples, not ${shown(given)}`);
}
