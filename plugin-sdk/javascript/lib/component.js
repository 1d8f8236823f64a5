// The exports of the component, between the contract's types and the SDK's. Only `build` imports it, into the bundle.

import { optionalU64, u64 } from "./engine.js";
import { Mistake, told } from "./errors.js";
import { Plugin } from "./plugin.js";
import { Secret } from "./secret.js";
import { Settings } from "./settings.js";

export function exportsOf(plugin) {
    if (!(plugin instanceof Plugin)) throw new Mistake("the file must have `export default new Plugin({ ... })`");
    const settings = (pairs) => {
        const value = (wire) => (wire.tag === "secret" ? new Secret(wire.val) : wire.val);
        return new Settings(plugin.settings, pairs.map(([key, wire]) => [key, value(wire)]));
    };
    return {
        about: {
            describe: () => ({
                name: plugin.name,
                version: plugin.version,
                summary: plugin.summary,
                settings: plugin.declared(),
                reach: plugin.reaches,
                attributes: plugin.attributes,
            }),
        },
        metrics: {
            graphs: (wire) => plugin.allGraphs(settings(wire)).map(graph),
            collect: (wire) =>
                answer(() => {
                    const { samples, problems } = plugin.collected(settings(wire));
                    return { samples: samples.map(sample), problems: problems.map(problem), attributes: [] };
                }),
        },
        checks: {
            check: (wire) => answer(() => ({ reports: plugin.checked(settings(wire)).map(report), attributes: [] })),
        },
        metadata: {
            gather: (wire) =>
                answer(() => {
                    const { documents, problems } = plugin.gathered(settings(wire));
                    const document = ({ namespace, json }) => ({ namespace, json, attributes: [] });
                    return { documents: documents.map(document), problems: problems.map(problem), attributes: [] };
                }),
        },
    };
}

/** What an export returns: what was thrown is an error of the contract. */
function answer(work) {
    try {
        return work();
    } catch (thrown) {
        // A crash: the agent then says which limit it was.
        if (thrown?.name === "InternalError" && thrown.message === "out of memory") throw thrown;
        throw error(thrown);
    }
}

function error(thrown) {
    const { kind, message, waitMs, attributes } = told(thrown);
    return { kind, message, retryAfterMs: optionalU64(waitMs), attributes };
}

const problem = (own) => ({ target: own.target, error: error(own.error), attributes: [] });

const report = ({ name, status, message }) => ({ name, status, message, attributes: [] });

const sample = ({ name, value, unixSeconds, host, labels }) => ({
    name,
    value: isUnsigned(value) ? { tag: "unsigned", val: u64(value) } : { tag: "float", val: value },
    unixSeconds: optionalU64(unixSeconds),
    host,
    attributes: Object.entries(labels),
});

const isUnsigned = (value) => typeof value === "bigint" || (Number.isSafeInteger(value) && value >= 0);

const graph = ({ name, label, unit, metrics }) => ({
    name,
    label,
    unit,
    metrics: Object.entries(metrics).map(([key, metric]) => ({
        name: key,
        label: metric.label,
        stacked: metric.stacked,
        reading: metric.reading,
        scale: metric.scale,
        attributes: [],
    })),
    attributes: [],
});
