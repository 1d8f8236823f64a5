// A secret of the operator, as a handle: the agent has its text, the plugin has not.

import { passedOn } from "./errors.js";

/** A secret. Put it into a header (`http`), a message (`tcp`) or a proof (`crypto`). Printing it shows nothing of it. */
export class Secret {
    #wire;

    constructor(wire) {
        this.#wire = wire;
    }

    /** Its length in bytes, as for a message that announces it. */
    get length() {
        return this.#wire.length();
    }

    /** Its text; `Denied` unless the operator's table has `reveal = true`. */
    reveal() {
        return passedOn(() => this.#wire.reveal());
    }

    wire() {
        return this.#wire;
    }

    toString() {
        return "<secret>";
    }

    toJSON() {
        return "<secret>";
    }
}
