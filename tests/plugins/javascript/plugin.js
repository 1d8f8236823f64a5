// A plugin in JavaScript: the contract's interfaces are objects, its records plain objects, its enums strings.
//
// Its setting `do` makes it misbehave, so that the tests can check that it is limited like any other plugin.

import { fetch } from "wasaba:plugin/http@0.1.0";
import { log } from "wasaba:plugin/log@0.1.0";

const setting = (key, kind, initial, help) => ({ key, kind, default: initial, required: false, repeatable: false, help });

export const plugin = {
    describe: () => ({
        name: "javascript",
        version: "0.1.0",
        summary: "the length of a page, in JavaScript",
        settings: [
            setting("host", "host", "localhost", "where the server is"),
            setting("port", "port", "80", "where the server is"),
            setting("do", "text", "nothing", "what to do wrong"),
        ],
        attributes: [],
    }),
};

export const metrics = {
    graphs: () => [
        {
            name: "javascript",
            label: "JavaScript",
            unit: "bytes",
            metrics: [{ name: "bytes", label: "Bytes", stacked: false, reading: "gauge", scale: 1.0 }],
            attributes: [],
        },
    ],
    collect: (settings) => {
        const value = act(Object.fromEntries(settings));
        return [{ name: "javascript.bytes", value }];
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
            for (let number = 0; number < 1000; number++) log("info", `line ${number}`);
            return 1;
        default:
            return 1;
    }
}

function page(url) {
    try {
        return fetch({ method: "GET", url, headers: [], body: undefined }).body.length;
    } catch (error) {
        // Convert an error of `http` to the plugin's own.
        const { tag, val } = error.payload ?? { tag: "failed", val: String(error) };
        throw { tag: tag === "invalid" ? "failed" : tag, val };
    }
}
