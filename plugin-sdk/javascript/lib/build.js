// Makes the component: `npx wasaba-plugin build plugin.js -o build/queue.wasm`, and runs native tests: `npx wasaba-plugin test`.
//
// The plugin is bundled twice: natively, so that its mistakes are reported with their line before anything is made, and for the component, whose
// world is made of the capabilities that are left in the bundle: a component imports from the agent what its world has, used or not.

import { spawnSync } from "node:child_process";
import { existsSync, mkdirSync, mkdtempSync, readFileSync, readdirSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, dirname, join, resolve } from "node:path";
import { fileURLToPath, pathToFileURL } from "node:url";
import { parseArgs } from "node:util";

import { build as bundle } from "esbuild";

import { runsOf } from "./source_map.js";

const PACKAGE = fileURLToPath(new URL("..", import.meta.url));

const CAPABILITIES = ["http", "tcp", "kv", "log", "files", "crypto", "call"];

const USAGE = `usage: wasaba-plugin build [FILE] [--output FILE] [--engine quickjs|starlingmonkey] [--quiet]
       wasaba-plugin test [FILE...]

  build  makes a component of a plugin, by default of plugin.js or plugin.ts, in build/NAME.wasm
  test   runs native tests, by default *.test.js and *.test.ts`;

/** Why nothing was built: for the author. */
class Refused extends Error {}

export async function main(given) {
    try {
        const { values, positionals } = parseArgs({
            args: given,
            allowPositionals: true,
            options: { output: { type: "string", short: "o" }, engine: { type: "string", default: "quickjs" }, quiet: { type: "boolean", default: false } },
        });
        const [command, ...files] = positionals;
        if (command === "build" && files.length <= 1) {
            await build(files[0], values.output, values.engine, values.quiet);
            return 0;
        }
        if (command === "test") return await test(files);
        throw new Refused(USAGE);
    } catch (error) {
        if (!(error instanceof Refused) && error?.code !== undefined && !String(error.code).startsWith("ERR_PARSE_ARGS")) throw error;
        console.error(error instanceof Refused || String(error?.code).startsWith("ERR_PARSE_ARGS") ? `error: ${error.message}` : error);
        return 1;
    }
}

async function build(file, output, engine, isQuiet) {
    const source = chosen(file);
    const folder = mkdtempSync(join(tmpdir(), "wasaba-plugin-"));
    try {
        const plugin = await loaded(source, folder);
        const exports = plugin.does();
        if (exports.length === 0) throw new Refused(`${basename(source)} does nothing: give its Plugin collect, check or metadata`);
        const { code, imports } = await bundled(source, exports, engine);
        refuseReach(plugin.reaches, imports);
        const target = resolve(output ?? join("build", `${plugin.name}.wasm`));
        mkdirSync(dirname(target), { recursive: true });
        const world = join(folder, "wit");
        writeWorld(world, imports, exports);
        const component = await componentize(engine, code, world);
        writeFileSync(target, component);
        if (isQuiet) return;
        const size = (component.length / 1e6).toFixed(1);
        console.log(`${output ?? join("build", `${plugin.name}.wasm`)}: ${size} MB, imports ${imports.join(", ") || "nothing"}`);
    } finally {
        rmSync(folder, { recursive: true });
    }
}

function chosen(file) {
    const found = (file === undefined ? ["plugin.js", "plugin.ts"] : [file]).find((path) => existsSync(path));
    if (found === undefined) throw new Refused(file === undefined ? "there is no plugin.js or plugin.ts here: name the file" : `there is no file \`${file}\``);
    return resolve(found);
}

const OPTIONS = { bundle: true, format: "esm", write: false, logLevel: "silent", sourcemap: "external", sourcesContent: false, outdir: "out" };

async function bundling(options) {
    try {
        return await bundle({ ...OPTIONS, ...options });
    } catch (error) {
        if (error.errors === undefined) throw error;
        const line = ({ text, location }) => (location === null ? text : `${location.file}:${location.line}: ${text}`);
        throw new Refused(error.errors.map(line).join("\n"));
    }
}

/** The plugin, imported natively. */
async function loaded(source, folder) {
    const { outputFiles } = await bundling({
        entryPoints: [source],
        platform: "node",
        sourcemap: "inline",
        outdir: folder,
        plugins: [ourselves()],
    });
    const file = join(folder, "native.mjs");
    writeFileSync(file, outputFiles[0].contents);
    process.setSourceMapsEnabled(true);
    let plugin;
    try {
        ({ default: plugin } = await import(pathToFileURL(file)));
    } catch (error) {
        const { told } = await import("./errors.js");
        // What the fault is, and the lines of the stack that are the author's.
        const stack = String(error?.stack).split("\n").filter((line) => line.includes(dirname(source)) && !line.includes(PACKAGE)).slice(0, 5);
        throw new Refused([`${basename(source)}: ${told(error).message}`, ...stack].join("\n"));
    }
    if (typeof plugin?.does !== "function") throw new Refused(`${basename(source)} must have \`export default new Plugin({ ... })\``);
    return plugin;
}

/** Resolves this package from wherever the plugin is, so that the tool and the plugin use the same. */
function ourselves() {
    return {
        name: "wasaba-plugin",
        setup(esbuild) {
            esbuild.onResolve({ filter: /^wasaba-plugin(\/|$)/ }, ({ path, pluginData, ...more }) =>
                pluginData === "ours" ? undefined : esbuild.resolve(path, { ...more, resolveDir: PACKAGE, pluginData: "ours" }),
            );
        },
    };
}

/** The bundle for the component, and which capabilities it imports. */
async function bundled(source, exports, engine) {
    const names = ["about", ...exports];
    const entry = `
        import plugin from ${JSON.stringify(source)};
        import { exportsOf } from "wasaba-plugin/component";
        export const { ${names.join(", ")} } = exportsOf(plugin);
    `;
    const { outputFiles, metafile } = await bundling({
        stdin: { contents: entry, resolveDir: dirname(source), sourcefile: "entry.js" },
        platform: "neutral",
        mainFields: ["module", "main"],
        conditions: ["wasaba", "import"],
        external: ["wasaba:*"],
        inject: [join(PACKAGE, "lib", "console.js"), ...(engine === "quickjs" ? [join(PACKAGE, "lib", "text_coding.js")] : [])],
        target: "es2022",
        // Many packages ask for it, and there is no `process`.
        define: { "process.env.NODE_ENV": '"production"' },
        metafile: true,
        plugins: [ourselves()],
    });
    const code = outputFiles.find(({ path }) => path.endsWith(".js")).text;
    const map = JSON.parse(outputFiles.find(({ path }) => path.endsWith(".map")).text);
    const used = Object.values(metafile.outputs).flatMap(({ imports }) => imports.map(({ path }) => path));
    const imports = CAPABILITIES.filter((name) => used.includes(`wasaba:plugin/${name}@0.2.0`));
    const other = used.find((path) => !path.startsWith("wasaba:plugin/"));
    if (other !== undefined) throw new Refused(`the plugin imports \`${other}\`, which the component does not have`);
    const lines = runsOf(map, (path) => isOfTheAuthor(path, source));
    return { code: `${code}\nglobalThis.wasabaLines = ${JSON.stringify(lines)};\n`, imports };
}

/** Whether a source of the bundle is the author's, and not a package. */
function isOfTheAuthor(path, source) {
    const file = resolve("out", path);
    return !file.includes("/node_modules/") && !file.startsWith(PACKAGE) && file.startsWith(dirname(source));
}

function refuseReach(reaches, imports) {
    for (const [capability, words] of Object.entries({ http: ["http"], tcp: ["tcp", "unix"], files: ["file"] })) {
        const says = words.filter((word) => reaches.includes(word));
        if (imports.includes(capability) && says.length === 0) {
            const wanted = words.map((word) => JSON.stringify(word)).join(" or ");
            throw new Refused(`the plugin uses ${capability}, which is denied unless it says so: add ${wanted} to \`reaches\``);
        }
        if (!imports.includes(capability) && says.length > 0) {
            throw new Refused(`the plugin says that it reaches ${JSON.stringify(says[0])}, but does not use ${capability}`);
        }
    }
}

function writeWorld(folder, imports, exports) {
    mkdirSync(folder);
    for (const file of readdirSync(join(PACKAGE, "wit"))) writeFileSync(join(folder, file), readFileSync(join(PACKAGE, "wit", file)));
    // `types` is imported by the others.
    const lines = [...["types", ...imports].map((name) => `import ${name};`), ...["about", ...exports].map((name) => `export ${name};`)];
    writeFileSync(join(folder, "made.wit"), `world made-for-the-plugin {\n    ${lines.join("\n    ")}\n}\n`);
}

async function componentize(engine, code, witPath) {
    try {
        if (engine === "quickjs") {
            const { componentize: make } = await import("componentize-qjs");
            // Without `sync` it would import async functions of the component model, which the contract does not have.
            const { component } = await make({ jsSource: code, witPath, world: "made-for-the-plugin", sync: true, optSize: true });
            return component;
        }
        if (engine === "starlingmonkey") {
            const { componentize: make } = await import(starlingMonkey());
            const { component } = await make(code, { witPath, worldName: "made-for-the-plugin", disableFeatures: ["http", "fetch-event"] });
            return component;
        }
    } catch (error) {
        if (error instanceof Refused) throw error;
        throw new Refused(`${engine === "quickjs" ? "componentize-qjs" : "componentize-js"} failed: ${error.message ?? error}`);
    }
    throw new Refused(`there is no engine \`${engine}\`: it is quickjs or starlingmonkey`);
}

/** The other engine is not installed with this package: it has 100 MB. */
function starlingMonkey() {
    for (const start of [process.cwd(), PACKAGE]) {
        for (let folder = start; ; folder = dirname(folder)) {
            const found = join(folder, "node_modules", "@bytecodealliance", "componentize-js");
            // Not `require.resolve`, since the package has no entry for `require`.
            if (existsSync(found)) return pathToFileURL(join(found, JSON.parse(readFileSync(join(found, "package.json"))).exports.import)).href;
            if (folder === dirname(folder)) break;
        }
    }
    throw new Refused("the engine is missing: npm install --save-dev @bytecodealliance/componentize-js@0.23.0 @bytecodealliance/preview2-shim@0.25.0");
}

async function test(files) {
    const found = files.length > 0 ? files : readdirSync(".").filter((file) => /\.test\.[jt]s$/.test(file));
    if (found.length === 0) throw new Refused("there are no tests here: name them like plugin.test.js");
    const folder = join("build", "tests");
    rmSync(folder, { recursive: true, force: true });
    await bundling({
        entryPoints: found,
        platform: "node",
        write: true,
        sourcemap: "inline",
        outdir: folder,
        outExtension: { ".js": ".mjs" },
        plugins: [ourselves()],
    });
    const made = readdirSync(folder).map((file) => join(folder, file));
    const { status } = spawnSync(process.execPath, ["--enable-source-maps", "--test", "--test-reporter=spec", ...made], { stdio: "inherit" });
    return status ?? 1;
}
