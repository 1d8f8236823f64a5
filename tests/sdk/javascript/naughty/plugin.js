// A plugin that misbehaves on request: its setting `do` says how.

import { Graph, Plugin, Sample, Setting, delta, gauge, http, log } from "wasaba-plugin";

const naughty = new Graph("naughty", "Naughty", "float", { "*": gauge("%1") });
const counted = new Graph("naughty.counted", "Counted", "integer", { large: delta("Large") });

export default new Plugin({
    name: "naughty",
    version: "0.1.0",
    summary: "misbehaves on request",
    reaches: ["http"],
    settings: {
        do: Setting.text({ default: "nothing", help: "what to do wrong" }),
        url: Setting.url({ default: "http://localhost/", help: "a page with a number" }),
        token: Setting.secret({ help: "a secret that must not be shown" }),
    },
    graphs: [naughty, counted],
    collect(settings) {
        switch (settings.do) {
            case "loop":
                for (;;);
            case "memory": {
                const hoard = [];
                for (;;) hoard.push(new Uint8Array(1 << 20).fill(1));
            }
            case "raise":
                throw new RangeError("on purpose");
            case "flood":
                for (let number = 0; number < 1_000; number += 1) log.info(`line ${number}`);
                break;
            case "wrong-type":
                return naughty.sample("*", "three", "good");
            case "undefined":
                return naughty.sample("*", settings.jobs?.waiting, "good");
            case "wrong-setting":
                return [["naughty.good", settings.uri.length]];
            case "wrong-name":
                return new Sample("other.waiting", 1);
            case "wrong-throw":
                throw "a text";
            case "print":
                console.log("a line", settings.token, `${settings.token}`, { token: settings.token });
                break;
            case "nan":
                return [["naughty.nan", Number.NaN]];
            case "large":
                return counted.sample("large", BigInt(http.get(settings.url).text()));
            case "none":
                return [];
        }
        return [["naughty.good", 1]];
    },
});
