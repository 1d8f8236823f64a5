// A plugin's description: its settings and its graphs.

import { shown, text } from "./check.js";
import { Mistake } from "./errors.js";
import { Sample } from "./sample.js";

export const UNITS = ["float", "integer", "percentage", "seconds", "milliseconds", "bytes", "bytes-per-second", "bits-per-second", "iops"];

export const REACHES = ["http", "tcp", "unix", "file"];

/** A setting. Its kinds are those of the contract; its key is that of the object that it is written in. */
export class Setting {
    constructor(kind, { default: initial, required = false, repeatable = false, of, help = "", aliases = {} } = {}) {
        this.kind = kind;
        this.default = initial === undefined || initial === null ? undefined : defaultText(initial);
        this.required = required;
        this.repeatable = repeatable;
        this.portOf = of;
        this.help = text(help, "the help of a setting");
        this.aliases = aliases;
    }

    static text(options) {
        return new Setting("text", options);
    }
    static secret(options) {
        return new Setting("secret", options);
    }
    static integer(options) {
        return new Setting("integer", options);
    }
    static number(options) {
        return new Setting("number", options);
    }
    static boolean(options) {
        return new Setting("boolean", { default: false, ...options });
    }
    static duration(options) {
        return new Setting("duration", options);
    }
    static url(options) {
        return new Setting("url", options);
    }
    static endpoint(options) {
        return new Setting("endpoint", options);
    }
    static host(options) {
        return new Setting("host", options);
    }
    static port(options) {
        return new Setting("port", options);
    }
    static unixSocket(options) {
        return new Setting("unix-socket", options);
    }
    static file(options) {
        return new Setting("file", options);
    }
    static tlsSkipVerify(options) {
        return new Setting("tls-skip-verify", { default: false, ...options });
    }
    static tlsMode(options) {
        return new Setting("tls-mode", options);
    }
}

function defaultText(value) {
    if (["string", "number", "boolean", "bigint"].includes(typeof value)) return String(value);
    throw new Mistake(`the default of a setting must be a text or a number, not ${shown(value)}`);
}

/** The key as the operator writes it: `tlsSkipVerify` is `tls-skip-verify`. */
export function keyOf(name) {
    return name.replace(/[A-Z]/g, (letter) => `-${letter.toLowerCase()}`);
}

/** A line of a graph. Its name is that of the object that it is written in. */
export class Metric {
    constructor(reading, label, { stacked = false, scale } = {}) {
        this.reading = reading;
        this.label = text(label, "a metric's label");
        this.stacked = stacked;
        if (scale !== undefined && (!Number.isFinite(scale) || scale === 0)) throw new Mistake(`the scale of a metric must not be ${scale}`);
        this.scale = scale;
    }
}

/** A reading that is posted as it is. */
export const gauge = (label = "", options) => new Metric("gauge", label, options);
/** A counter whose growth per minute is posted. */
export const perMinute = (label = "", options) => new Metric("per-minute", label, options);
/** A counter whose growth per second is posted. */
export const perSecond = (label = "", options) => new Metric("per-second", label, options);
/** A counter whose growth since the previous call is posted. */
export const delta = (label = "", options) => new Metric("delta", label, options);
/** A counter that wraps at 2^32, whose growth per minute is posted. */
export const perMinute32 = (label = "", options) => new Metric("per-minute-32", label, options);

/** A graph on Mackerel. `name`: segments joined by dots, without `custom.`; a segment may be `*`, and one `#`. */
export class Graph {
    constructor(name, label, unit, metrics) {
        this.name = text(name, "a graph's name");
        this.label = text(label, `the label of graph \`${name}\``);
        if (!UNITS.includes(unit)) throw new Mistake(`the unit of graph \`${name}\` must be one of ${UNITS.join(", ")}, not ${shown(unit)}`);
        this.unit = unit;
        this.metrics = { ...metrics };
        for (const [key, metric] of Object.entries(this.metrics)) {
            if (!(metric instanceof Metric)) {
                throw new Mistake(`metric \`${key}\` of graph \`${name}\` must be gauge("label") or another, not ${shown(metric)}`);
            }
        }
    }

    /** The sample of one metric; under a name with wildcards, with a text for each. */
    sample(metric, value, ...segments) {
        if (!Object.hasOwn(this.metrics, metric)) {
            throw new Mistake(`graph \`${this.name}\` has no metric \`${String(metric)}\`: it has ${Object.keys(this.metrics).join(", ") || "none"}`);
        }
        const pattern = `${this.name}.${metric}`;
        if (!/[*#]/.test(pattern) && segments.length === 0) return Sample.known(pattern, value);
        const rest = [...segments];
        const parts = pattern.split(".").map((part) => {
            if (part !== "*" && part !== "#") return part;
            if (rest.length === 0) throw new Mistake(`\`${pattern}\` needs a text for each wildcard: sample("${metric}", value, text)`);
            return segment(rest.shift());
        });
        if (rest.length > 0) throw new Mistake(`\`${pattern}\` has no wildcard for ${shown(rest[0])}`);
        return Sample.known(parts.join("."), value);
    }

    /** The samples of several metrics by their names. One that is `undefined` has no value, and so no sample. */
    samples(values, ...segments) {
        return Object.entries(values).flatMap(([metric, value]) => {
            if (value === undefined && Object.hasOwn(this.metrics, metric)) return [];
            return [this.sample(metric, value, ...segments)];
        });
    }
}

/** A text as one segment of a metric's name: each character that Mackerel does not accept there becomes `_`. */
export function segment(text) {
    return String(text).replace(/[^-a-zA-Z0-9_]/gu, "_") || "_";
}

/** The names that samples may have: those of the metrics of some graphs. */
export class Names {
    constructor(graphs) {
        this.exact = new Set();
        this.patterns = [];
        for (const graph of graphs) {
            for (const metric of Object.keys(graph.metrics)) {
                const pattern = `${graph.name}.${metric}`;
                if (/[*#]/.test(pattern)) this.patterns.push(pattern.split("."));
                else this.exact.add(pattern);
            }
        }
    }

    has(name) {
        if (this.exact.has(name)) return true;
        const parts = name.split(".");
        return this.patterns.some(
            (pattern) =>
                pattern.length === parts.length &&
                pattern.every((wanted, at) => wanted === "*" || wanted === "#" || wanted === parts[at]),
        );
    }

    /** What it has, for a message. */
    toString() {
        const all = [...this.exact, ...this.patterns.map((pattern) => pattern.join("."))];
        return all.slice(0, 10).join(", ") || "none";
    }
}
