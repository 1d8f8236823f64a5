// Tests of what the SDK has itself, since QuickJS or Node.js have not: UTF-8, TOML, source maps.

import assert from "node:assert/strict";
import { readFileSync, readdirSync } from "node:fs";
import test from "node:test";

import { build } from "esbuild";

import { runsOf } from "../lib/source_map.js";
import { parse } from "../lib/toml.js";
import { decode, encode } from "../lib/utf8.js";

test("text is the same after a way through UTF-8, as TextEncoder has it", () => {
    for (const text of ["", "ascii", "röster", "日本", "😀 a", "\u0000\u007f\u0080\u07ff\u0800\ud7ff\ue000\uffff\u{10000}\u{10ffff}", "x".repeat(20_000)]) {
        assert.deepEqual([...encode(text)], [...new TextEncoder().encode(text)]);
        assert.equal(decode(encode(text)), text);
    }
    assert.deepEqual([...encode("a\ud800b")], [...new TextEncoder().encode("a\ud800b")]);
});

test("bytes that are not UTF-8 have no text", () => {
    for (const bytes of [[0x80], [0xc0, 0x80], [0xc2], [0xe0, 0x80, 0x80], [0xed, 0xa0, 0x80], [0xf0, 0x80, 0x80, 0x80], [0xf4, 0x90, 0x80, 0x80], [0xff], [0x61, 0xe2, 0x82]]) {
        assert.throws(() => new TextDecoder("utf-8", { fatal: true }).decode(Uint8Array.from(bytes)));
        assert.equal(decode(Uint8Array.from(bytes)), undefined, String(bytes));
        assert.match(decode(Uint8Array.from(bytes), { isLenient: true }), /\ufffd/);
    }
});

test("cases are read as TOML has them", () => {
    const text = `
        # a comment
        [[case]]
        name = "a \\"b\\" \\u65e5" # another
        settings = { url = 'http://a/', "tls-skip-verify" = true, list = ["x", 'y',], }
        http = [
            { url = "http://a/", status = 503, body = { hex = "0d 0a" } }, # in an array
        ]
        samples = { "a.b" = 1, "a.c" = -2.5e-1, }
        [[case.minute]]
        error = '''
{"a": 1}'''
        [[case.minute]]
        after_seconds = 1_000
        [[case]]
        name = """
two \\
   lines"""
        files."/a b" = ""
    `;
    assert.deepEqual(parse(text), {
        case: [
            {
                name: 'a "b" 日',
                settings: { url: "http://a/", "tls-skip-verify": true, list: ["x", "y"] },
                http: [{ url: "http://a/", status: 503, body: { hex: "0d 0a" } }],
                samples: { "a.b": 1, "a.c": -0.25 },
                minute: [{ error: '{"a": 1}' }, { after_seconds: 1_000 }],
            },
            { name: "two lines", files: { "/a b": "" } },
        ],
    });
});

test("what is not TOML is reported with its line", () => {
    for (const text of ["a = 1\nb = ", "a = 1\na = 2", 'a = 1\nb = "x', "a = 1\nb = {x = 1", "a = 1\nb = 1 c = 2", "a = 1\n= 2", "a = 1\nb = 1x"]) {
        assert.throws(() => parse(text), /^Error: line 2: /, text);
    }
});

test("lines of a bundle are those of their file, in runs", () => {
    // As esbuild writes it: line 2 and 3 of the bundle are lines 1 and 2 of the first source, line 5 is line 4 of the second.
    const map = { sources: ["../src/a.js", "../node_modules/b.js"], mappings: ";AAAA;AACA,IAAI;;ACEA" };
    assert.deepEqual(runsOf(map, () => true), { files: ["a.js", "b.js"], runs: [[2, 2, 0, 1], [5, 1, 1, 4]] });
    assert.deepEqual(runsOf(map, (path) => !path.includes("node_modules")), { files: ["a.js"], runs: [[2, 2, 0, 1]] });
});

test("each line of a list and of an object that take several is that of the source", async () => {
    const contents = ["export const a = (one, two) => {", "    // A comment.", "    return [", "        one({ a: 1 }),", "        two({", "            b: 2,", "        }),", "    ];", "};"];
    const { outputFiles } = await build({
        stdin: { contents: contents.join("\n"), sourcefile: "a.js" },
        bundle: true,
        format: "esm",
        write: false,
        sourcemap: "external",
        outdir: "out",
    });
    const text = (ending) => outputFiles.find(({ path }) => path.endsWith(ending)).text;
    const { runs } = runsOf(JSON.parse(text(".map")), () => true);
    const bundle = text(".js").split("\n");
    for (const part of ["return [", "one({", "two({", "b: 2"]) {
        const line = bundle.findIndex((own) => own.includes(part)) + 1;
        const [first, , , original] = runs.find(([start, count]) => line >= start && line < start + count);
        assert.equal(original + line - first, contents.findIndex((own) => own.includes(part)) + 1, part);
    }
});

test("the contract in the package is the contract", () => {
    const texts = (folder) => Object.fromEntries(readdirSync(folder).map((file) => [file, readFileSync(new URL(file, folder), "utf8")]));
    assert.deepEqual(texts(new URL("../wit/", import.meta.url)), texts(new URL("../../../wit/", import.meta.url)));
});
