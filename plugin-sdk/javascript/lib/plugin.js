// A plugin: what it is, and the functions that do its work.

import { shown, text } from "./check.js";
import { Graph, Names, REACHES, Setting, keyOf } from "./description.js";
import { Mistake } from "./errors.js";
import { documents, reports } from "./report.js";
import { readings, withNames } from "./sample.js";

const KEYS = [
    "name",
    "version",
    "summary",
    "reaches",
    "settings",
    "graphs",
    "graphsBySettings",
    "collect",
    "check",
    "metadata",
    "license",
    "homepage",
    "intervalSeconds",
    "timeoutSeconds",
    "agent",
    "attributes",
];

/** A plugin: the default export of the file that is built. */
export class Plugin {
    constructor(definition) {
        for (const key of Object.keys(definition)) {
            if (!KEYS.includes(key)) throw new Mistake(`a plugin has no \`${key}\`; it has ${KEYS.join(", ")}`);
        }
        this.name = text(definition.name, "a plugin's name");
        this.version = text(definition.version, "a plugin's version");
        this.summary = text(definition.summary ?? "", "a plugin's summary");
        this.reaches = [...(definition.reaches ?? [])];
        for (const word of this.reaches) {
            if (!REACHES.includes(word)) throw new Mistake(`\`reaches\` has ${shown(word)}; valid: ${REACHES.join(", ")}`);
        }
        this.settings = { ...definition.settings };
        for (const [key, setting] of Object.entries(this.settings)) {
            if (!(setting instanceof Setting)) throw new Mistake(`setting \`${key}\` must be Setting.text() or another kind, not ${shown(setting)}`);
            if (setting.portOf !== undefined && this.settings[setting.portOf] === undefined) {
                throw new Mistake(`setting \`${key}\` is the port of \`${setting.portOf}\`, which is not there`);
            }
        }
        this.graphs = [...(definition.graphs ?? [])];
        for (const graph of this.graphs) {
            if (!(graph instanceof Graph)) throw new Mistake(`a graph must be new Graph(...), not ${shown(graph)}`);
        }
        const facts = {
            license: definition.license,
            homepage: definition.homepage,
            "interval-seconds": definition.intervalSeconds,
            "timeout-seconds": definition.timeoutSeconds,
            agent: definition.agent,
            ...definition.attributes,
        };
        this.attributes = Object.entries(facts)
            .filter(([, value]) => value !== undefined)
            .map(([key, value]) => [key, String(value)]);
        const { collect, check, metadata, graphsBySettings } = definition;
        this.functions = { collect, check, metadata, graphsBySettings };
        for (const [key, own] of Object.entries(this.functions)) {
            if (own !== undefined && typeof own !== "function") throw new Mistake(`\`${key}\` must be a function, not ${shown(own)}`);
        }
    }

    // What the component and the fake host call.

    /** Which of the contract's exports it has. */
    does() {
        const words = { collect: "metrics", check: "checks", metadata: "metadata" };
        return Object.keys(words).filter((key) => this.functions[key] !== undefined).map((key) => words[key]);
    }

    /** The graphs of an instance. */
    allGraphs(settings) {
        const more = this.functions.graphsBySettings;
        return more === undefined ? this.graphs : [...this.graphs, ...more(settings.values(), settings)];
    }

    /** What `collect` reads, held against the plugin's own graphs. */
    collected(settings) {
        let names;
        const own = () => (names ??= new Names(this.allGraphs(settings)));
        return withNames(own, () => readings(this.functions.collect(settings.values(), settings)));
    }

    /** What `check` reports. */
    checked(settings) {
        return reports(this.functions.check(settings.values(), settings));
    }

    /** The documents of metadata, and the targets without. */
    gathered(settings) {
        return documents(this.functions.metadata(settings.values(), settings));
    }

    /** The settings as the contract has them, without the engine's types. */
    declared() {
        return Object.entries(this.settings).map(([name, setting]) => ({
            key: keyOf(name),
            kind: setting.kind,
            default: setting.default,
            required: setting.required,
            repeatable: setting.repeatable,
            portOf: setting.portOf === undefined ? undefined : keyOf(setting.portOf),
            help: setting.help,
            attributes: Object.keys(setting.aliases).length > 0 ? [["aliases", Object.entries(setting.aliases).map((pair) => pair.join("=")).join(" ")]] : [],
        }));
    }
}
