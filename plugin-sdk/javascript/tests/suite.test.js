// The suite of all languages, natively: the fake host agrees with the agent.

import assert from "node:assert/strict";
import { spawnSync } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import test from "node:test";
import { fileURLToPath } from "node:url";

const SUITE = fileURLToPath(new URL("../../../tests/sdk/", import.meta.url));
const TOOL = fileURLToPath(new URL("../bin/wasaba-plugin.js", import.meta.url));

function inFolder(work) {
    const folder = mkdtempSync(join(tmpdir(), "wasaba-plugin-test-"));
    try {
        // Without this variable, its own `node --test` speaks to a person and not to this test.
        const { NODE_TEST_CONTEXT, ...env } = process.env;
        work(folder, (...args) => spawnSync(process.execPath, [TOOL, ...args], { cwd: folder, env, encoding: "utf8" }));
    } finally {
        rmSync(folder, { recursive: true });
    }
}

test("everything and naughty pass their cases natively, run by the tool", () => {
    inFolder((folder, tool) => {
        const text = `
            import test from "node:test";
            import everything from ${JSON.stringify(join(SUITE, "javascript/everything/plugin.js"))};
            import naughty from ${JSON.stringify(join(SUITE, "javascript/naughty/plugin.js"))};
            import { cases } from "wasaba-plugin/testing";
            const run = (plugin, file) => cases(file).forEach((each) => test(each.name, () => each.run(plugin)));
            run(everything, ${JSON.stringify(join(SUITE, "cases.toml"))});
            run(naughty, ${JSON.stringify(join(SUITE, "naughty.toml"))});
            run(naughty, ${JSON.stringify(join(SUITE, "large.toml"))});
            run(naughty, ${JSON.stringify(join(SUITE, "javascript/naughty.toml"))});
        `;
        writeFileSync(join(folder, "suite.test.js"), text);
        const { status, stdout } = tool("test");
        assert.equal(status, 0, stdout);
        assert.match(stdout, /pass [2-9]\d/);
    });
});

const PLUGIN = (more) => `
import { Plugin, http, kv } from "wasaba-plugin";
export default new Plugin({ name: "q", version: "1", summary: "", ${more} });
`;

test("what cannot be built is reported with the author's line, and nothing is made", () => {
    for (const [text, expected] of [
        ["\nlet a = ;", /^error: plugin\.js:2: /],
        ["\n\nthrow new TypeError('no');", /^error: plugin\.js: TypeError: no \(plugin\.js:3\)/],
        ['\nimport { Graph } from "wasaba-plugin";\nnew Graph("a", "A", "bites", {});', /^error: plugin\.js: the unit of graph `a` .* \(plugin\.js:3\)/],
        ["export default 3;", /must have `export default new Plugin/],
        [PLUGIN(""), /does nothing/],
        [PLUGIN("collect: () => http.get('http://a/').json()"), /uses http, which is denied unless it says so: add "http" to `reaches`/],
        [PLUGIN("reaches: ['file'], collect: () => []"), /says that it reaches "file", but does not use files/],
        [`import { readFileSync } from "node:fs";${PLUGIN("collect: () => [['a', readFileSync.length]]")}`, /plugin\.js:1: Could not resolve "node:fs"/],
    ]) {
        inFolder((folder, tool) => {
            writeFileSync(join(folder, "plugin.js"), text);
            const { status, stderr } = tool("build");
            assert.match(stderr, expected);
            assert.equal(status, 1);
        });
    }
});

test("a component imports what is used, and no other", () => {
    for (const [text, expected] of [
        [PLUGIN("collect: () => []"), "nothing"],
        [PLUGIN("reaches: ['http'], collect: () => http.get('http://a/').json()"), "http"],
        [PLUGIN("collect: () => [['a', kv.keys().length]]"), "kv"],
        [PLUGIN("collect: () => { console.log('x'); return []; }"), "log"],
    ]) {
        inFolder((folder, tool) => {
            writeFileSync(join(folder, "plugin.js"), text);
            const { stdout, stderr } = tool("build");
            assert.equal(tool("build", "--quiet").stdout, "");
            assert.match(stdout, new RegExp(`^build/q\\.wasm: \\d\\.\\d MB, imports ${expected}\\n`), stderr);
        });
    }
});
