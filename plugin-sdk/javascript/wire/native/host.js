// Where capabilities come from natively: the fake host of `wasaba-plugin/testing` that is active, which has the functions that the
// contract has, so that the SDK's own code is tested, too.

const KEY = Symbol.for("wasaba-plugin.hosts");

/** The active fake hosts, the innermost last. Shared by all copies of this module in a process. */
export const hosts = (globalThis[KEY] ??= []);

function active(name) {
    const host = hosts.at(-1);
    if (host === undefined) throw new Error(`there is no agent here that has \`${name}\`: in tests, use Host of wasaba-plugin/testing`);
    return host.wire[name];
}

/** An interface of the host that is active when it is used. */
export function natively(name) {
    const member = (key) =>
        new Proxy(function () {}, {
            apply: (_, __, values) => active(name)[key](...values),
            construct: (_, values) => new (active(name)[key])(...values),
            get: (_, own) => active(name)[key][own],
        });
    return new Proxy({}, { get: (_, key) => member(key) });
}
