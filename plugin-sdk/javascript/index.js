// Write plugins for the wasaba agent in JavaScript and TypeScript. The component imports from the agent the capabilities that the plugin
// uses, and no other.

export * as call from "./lib/call.js";
export * as crypto from "./lib/crypto.js";
export * as files from "./lib/files.js";
export * as http from "./lib/http.js";
export * as kv from "./lib/kv.js";
export * as log from "./lib/log.js";
export * as tcp from "./lib/tcp.js";
export { warningDaily } from "./lib/daily.js";
export { Graph, Metric, Setting, delta, gauge, perMinute, perMinute32, perSecond, segment } from "./lib/description.js";
export {
    Busy,
    Denied,
    Failed,
    Full,
    Invalid,
    Misconfigured,
    Mistake,
    PluginError,
    Timeout,
    TooCostly,
    TooLarge,
    Unauthorized,
    Unreachable,
    Unsupported,
} from "./lib/errors.js";
export { growth } from "./lib/kv.js";
export { Plugin } from "./lib/plugin.js";
export { Document, Report } from "./lib/report.js";
export { Problem, Sample } from "./lib/sample.js";
export { Secret } from "./lib/secret.js";
export { Settings } from "./lib/settings.js";
export { up } from "./lib/up.js";
export * as utf8 from "./lib/utf8.js";
