// Warnings that are not repeated every minute. Apart from `log`, since it uses `kv`, too.

import { getText, set } from "./kv.js";
import { warning } from "./log.js";

const DAY_MS = 24 * 60 * 60 * 1_000;

/** Like `log.warning`, but at most once a day for each `topic`: for problems that persist until the operator acts. */
export function warningDaily(topic, line) {
    const [now, key] = [Date.now(), `warned: ${topic}`];
    const since = now - Number(getText(key) ?? Number.NaN);
    // If the clock was set back, it counts as another day.
    if (since >= 0 && since < DAY_MS) return;
    warning(line);
    set(key, String(now));
}
