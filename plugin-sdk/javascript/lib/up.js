// Whether the target is up, as a metric.

import { Failed, Mistake, Timeout, Unreachable, Unsupported } from "./errors.js";
import { get, remove, set } from "./kv.js";
import { info, warning } from "./log.js";

// Set while the target is down, so that this is logged once.
const KEY = "down";

/**
 * What `work` gives, and the metric of the graph: 1 if the target answered; 0, alone, if it did not answer or its answer is unusable. That
 * is then not an error of the plugin any more, so it is logged with its reason when it begins, and when the target recovers. An error that
 * the operator has to fix stays one, since it says nothing about the target.
 */
export function up(graph, metric, work) {
    let samples;
    try {
        samples = work();
        if (!Array.isArray(samples)) samples = [...samples];
    } catch (error) {
        const isDown = [Unreachable, Timeout, Failed, Unsupported].some((Kind) => error instanceof Kind);
        if (!isDown || error instanceof Mistake) throw error;
        if (get(KEY) === undefined) {
            warning(`the target is down: ${error.message}`);
            set(KEY, "");
        }
        return [graph.sample(metric, 0)];
    }
    if (get(KEY) !== undefined) {
        info("the target is up again");
        remove(KEY);
    }
    return [samples, graph.sample(metric, 1)];
}
