// `console` in the component: lines in the agent's log. `build` puts it where the plugin, or a package that it uses, says `console`.

import { debug, error, info, warning } from "./log.js";

const line = (values) => values.map(shown).join(" ");

function shown(value) {
    if (typeof value === "string") return value;
    if (value instanceof Error) return String(value);
    try {
        return JSON.stringify(value, (_, inner) => (typeof inner === "bigint" ? String(inner) : inner)) ?? String(value);
    } catch {
        return String(value);
    }
}

export const console = {
    debug: (...values) => debug(line(values)),
    trace: (...values) => debug(line(values)),
    log: (...values) => info(line(values)),
    info: (...values) => info(line(values)),
    warn: (...values) => warning(line(values)),
    error: (...values) => error(line(values)),
    assert: (holds, ...values) => (holds ? undefined : warning(line(["assertion failed:", ...values]))),
};
