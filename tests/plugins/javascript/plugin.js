// A plugin in JavaScript: the contract's interfaces are objects, its records plain objects, its variants objects with `tag` and `val`.
//
// Its setting `do` makes it misbehave, so that the tests can check that it is limited like any other plugin.

import { Request, send } from "wasaba:plugin/http@0.2.0";
import { write } from "wasaba:plugin/log@0.2.0";

const setting = (key, kind, initial, help, portOf) => ({
    key,
    kind,
    default: initial,
    required: false,
    repeatable: false,
    portOf,
    help,
    attributes: [],
});

export const about = {
    describe: () => ({
        name: "javascript",
        version: "0.1.0",
        summary: "the length of a page, in JavaScript",
        settings: [
            setting("host", "host", "localhost", "where the server is"),
            setting("port", "port", "80", "where the server is", "host"),
            setting("do", "text", "nothing", "what to do wrong"),
        ],
        reach: ["http"],
        attributes: [],
    }),
};

export const metrics = {
    graphs: () => [
        {
            name: "javascript",
            label: "JavaScript",
            unit: "bytes",
            metrics: [
                { name: "bytes", label: "Bytes", stacked: false, reading: "gauge", scale: undefined, attributes: [] },
            ],
            attributes: [],
        },
    ],
    collect: (settings) => {
        // None of the settings is a secret.
        const val = act(Object.fromEntries(settings.map(([key, value]) => [key, value.val])));
        const value = { tag: "float", val };
        const sample = { name: "javascript.bytes", value, unixSeconds: undefined, host: undefined, attributes: [] };
        return { samples: [sample], problems: [], attributes: [] };
    },
};

function act(settings) {
    switch (settings.do) {
        case "fetch":
            return page(`http://${settings.host}:${settings.port}/`);
        case "fetch-elsewhere":
            return page(`http://${settings.host}:1/`);
        case "loop":
            for (;;);
        case "memory": {
            const hoard = [];
            for (;;) hoard.push(new Uint8Array(1 << 20).fill(1));
        }
        case "raise":
            throw new Error("on purpose");
        case "flood":
            for (let number = 0; number < 1000; number++) write("info", `line ${number}`);
            return 1;
        default:
            return 1;
    }
}

function page(url) {
    try {
        return send(new Request("GET", url)).body().length;
    } catch (error) {
        // An error of the capability is passed on as it is.
        throw error.payload ?? { kind: "failed", message: String(error), retryAfterMs: undefined, attributes: [] };
    }
}
