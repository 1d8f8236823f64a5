// Lines in the agent's log, for what is not an error: errors are thrown, and the agent logs them. `console` writes here, too.

import { write } from "#wire/log";

/** A line that is logged only if the agent is verbose. */
export const debug = (line) => write("debug", String(line));
/** A line that is always logged. */
export const info = (line) => write("info", String(line));
/** A problem that the operator should look into, although the values are still correct. */
export const warning = (line) => write("warning", String(line));
/** A problem that is not the call's own failure. */
export const error = (line) => write("error", String(line));
