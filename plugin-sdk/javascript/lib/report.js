// The results of checks, and documents of metadata.

import { shown } from "./check.js";
import { Mistake } from "./errors.js";
import { Problem } from "./sample.js";

/** A check's result: a status, and the message that the operator reads in the alert. */
export class Report {
    constructor(status, message, { name = "" } = {}) {
        this.status = status;
        this.message = String(message);
        this.name = name;
    }

    /** Everything is as expected. */
    static ok(message, options) {
        return new Report("ok", message, options);
    }
    /** Needs attention. */
    static warning(message, options) {
        return new Report("warning", message, options);
    }
    /** Needs attention immediately. */
    static critical(message, options) {
        return new Report("critical", message, options);
    }
    /** The status could not be determined. */
    static unknown(message, options) {
        return new Report("unknown", message, options);
    }
}

/** A value for JSON about the host. `namespace` is empty for the table's own name, or begins with that name and `-`. */
export class Document {
    constructor(value, namespace = "") {
        this.json = JSON.stringify(value);
        this.namespace = namespace;
        if (this.json === undefined) throw new Mistake(`the document \`${namespace}\` cannot be JSON: it is ${shown(value)}`);
    }
}

/** What `check` gave, as a list. */
export function reports(given) {
    const list = given instanceof Report ? [given] : typeof given?.[Symbol.iterator] === "function" ? [...given] : [];
    const other = list.find((one) => !(one instanceof Report));
    if (other !== undefined) throw new Mistake(`\`check\` must give a Report, not ${shown(other)}`);
    if (list.length === 0) throw new Mistake("`check` gave no Report");
    return list;
}

/** What `metadata` gave: documents and problems, or one value. */
export function documents(given) {
    const isOurs = (one) => one instanceof Document || one instanceof Problem;
    const isSeveral = typeof given?.next === "function" || (Array.isArray(given) && given.some(isOurs));
    const list = isSeveral ? [...given] : [given];
    return {
        documents: list.filter((one) => !(one instanceof Problem)).map((one) => (one instanceof Document ? one : new Document(one))),
        problems: list.filter((one) => one instanceof Problem),
    };
}
