// The settings of one instance, validated by the agent.

import { keyOf } from "./description.js";
import { Misconfigured, Mistake } from "./errors.js";
import { Secret } from "./secret.js";

/**
 * An instance's settings by key: what the operator wrote, with the defaults filled in. The plugin's functions get it as their second
 * argument; the first one has the values in the types of their kinds.
 */
export class Settings {
    #declared;
    #pairs;

    constructor(declared, pairs) {
        this.#declared = declared;
        this.#pairs = pairs;
    }

    #of(name) {
        if (typeof name === "string" && Object.hasOwn(this.#declared, name)) return [keyOf(name), this.#declared[name]];
        const found = Object.entries(this.#declared).find(([own]) => keyOf(own) === name);
        if (found !== undefined) return [keyOf(found[0]), found[1]];
        const all = Object.keys(this.#declared);
        const meant = all.find((own) => edits(own, String(name)) <= 2);
        const cure = meant === undefined ? `it has ${all.join(", ") || "none"}` : `did you mean \`${meant}\`?`;
        throw new Mistake(`the plugin declares no setting \`${String(name)}\`: ${cure}`);
    }

    #values(name) {
        const [key] = this.#of(name);
        // An empty secret is as good as none.
        return this.#pairs.filter(([own, value]) => own === key && !(value instanceof Secret && value.length === 0)).map(([, value]) => value);
    }

    /** The value as text, if it is set and not a secret. */
    get(name) {
        return this.all(name).at(-1);
    }

    /** The value as text; `Misconfigured` if it is not set. */
    text(name) {
        const value = this.get(name);
        if (value === undefined) throw new Misconfigured(`\`${this.#of(name)[0]}\` is not set`);
        return value;
    }

    /** Each value of a repeatable setting as text, in the operator's order. */
    all(name) {
        return this.#values(name).filter((value) => typeof value === "string");
    }

    /** The secret, if it is set and not empty. */
    secret(name) {
        return this.secrets(name).at(-1);
    }

    /** Each value of a repeatable secret, in the operator's order. */
    secrets(name) {
        const [key, setting] = this.#of(name);
        if (setting.kind !== "secret") throw new Mistake(`setting \`${key}\` is not a secret`);
        return this.#values(name).filter((value) => value instanceof Secret);
    }

    /** The value, which must be one of `valid`. */
    oneOf(name, valid) {
        return known(this.#of(name)[0], this.text(name), valid);
    }

    /** The values of a repeatable setting, each of which must be one of `valid`. */
    someOf(name, valid) {
        return this.all(name).map((value) => known(this.#of(name)[0], value, valid));
    }

    /** The value in the type of its kind; an array if it is repeatable, undefined if it is not set. */
    value(name) {
        const [key, setting] = this.#of(name);
        const values = this.#values(name).map((value) => parsed(key, setting.kind, value));
        return setting.repeatable ? values : values.at(-1);
    }

    /** An object with each value in the type of its kind, in which a key that is not declared is the author's mistake. */
    values() {
        const values = {};
        for (const name of Object.keys(this.#declared)) {
            // When it is asked for: parsing costs time, and most functions need a few.
            Object.defineProperty(values, name, { enumerable: true, get: () => this.value(name) });
        }
        return new Proxy(values, {
            get: (target, name) => {
                if (typeof name === "symbol" || Object.hasOwn(target, name) || ["toJSON", "then", "constructor", "inspect"].includes(name)) {
                    return target[name];
                }
                return this.value(name);
            },
        });
    }
}

function known(key, value, valid) {
    if (valid.includes(value)) return value;
    const meant = valid.find((one) => edits(one, value) <= Math.max(1, Math.floor(one.length / 3)));
    throw new Misconfigured(
        `unknown value ${JSON.stringify(value)} in \`${key}\`${meant === undefined ? "; " : `, did you mean ${JSON.stringify(meant)}? `}valid: ${valid.join(", ")}`,
    );
}

const MILLIS = { ms: 1, s: 1_000, m: 60_000, h: 3_600_000 };

/** A value in the type of its kind. The agent has validated it, so this fails only for a fake host's. */
export function parsed(key, kind, value) {
    if (typeof value !== "string") return value;
    const result = convert(kind, value);
    if (result === undefined || Number.isNaN(result)) {
        throw new Misconfigured(`invalid value ${JSON.stringify(value)} in \`${key}\`: it must be of kind ${kind}`);
    }
    return result;
}

function convert(kind, value) {
    switch (kind) {
        case "integer":
        case "port":
            return /^[-+]?\d+$/.test(value) ? Number(value) : undefined;
        case "number":
            return value.trim() === "" ? undefined : Number(value);
        case "boolean":
        case "tls-skip-verify":
            return { true: true, false: false }[value];
        case "duration": {
            const match = /^(\d+)(ms|s|m|h)$/.exec(value);
            return match === null ? undefined : Number(match[1]) * MILLIS[match[2]];
        }
        case "endpoint": {
            const match = /^(.+):(\d+)$/.exec(value);
            return match === null ? undefined : { host: match[1], port: Number(match[2]), toString: () => value };
        }
        default:
            return value;
    }
}

/** How many letters must be added, removed or replaced to get from one text to the other. */
function edits(from, to) {
    let row = Array.from({ length: to.length + 1 }, (_, at) => at);
    for (let at = 0; at < from.length; at += 1) {
        const next = [at + 1];
        for (let other = 0; other < to.length; other += 1) {
            next.push(Math.min(row[other] + (from[at] === to[other] ? 0 : 1), row[other + 1] + 1, next[other] + 1));
        }
        row = next;
    }
    return row[to.length];
}
