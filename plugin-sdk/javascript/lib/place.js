// File and line of the author's code, out of a stack.

// In the component: for each of the author's lines in the bundle, its file and line; `build` appends it. Natively undefined.
const ours = () => globalThis.wasabaLines;

/** `plugin.js:12`: the innermost frame that is of the author's code. */
export function placeOf(stack) {
    for (const frame of String(stack ?? "").split("\n")) {
        const match = /([^\s()]+?):(\d+)(?::\d+)?\)?\s*$/.exec(frame);
        if (match === null) continue;
        const place = ours() === undefined ? natively(match[1], match[2]) : bundled(Number(match[2]));
        if (place !== undefined) return place;
    }
    return undefined;
}

function bundled(line) {
    // Runs of [first line in the bundle, number of lines, file, first line in the file]: esbuild keeps lines together.
    const { files, runs } = ours();
    for (const [first, count, file, original] of runs) {
        if (line >= first && line < first + count) return `${files[file]}:${original + line - first}`;
    }
    return undefined;
}

// The folder of this module, as stacks have it: also in a bundle whose source map is in use.
const here = /* @__PURE__ */ (() => {
    const path = /((?:file:\/\/)?\/[^\s()]*\/)place\.js:\d+/.exec(String(new Error().stack))?.[1] ?? "";
    return path === "" || path.startsWith("file:") ? path : `file://${path}`;
})();

function natively(file, line) {
    const path = file.startsWith("/") ? `file://${file}` : file;
    if (!path.startsWith("file:") || path.includes("/node_modules/") || (here !== "" && path.startsWith(here))) return undefined;
    return `${path.slice(path.lastIndexOf("/") + 1)}:${line}`;
}
