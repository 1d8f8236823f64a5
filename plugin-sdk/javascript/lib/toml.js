// The part of TOML that files of test cases use, for the fake host: all but dates.

/** The table that a text has. */
export function parse(text) {
    return new Parser(text).document();
}

class Parser {
    constructor(text) {
        this.text = text;
        this.at = 0;
    }

    fail(what) {
        const line = this.text.slice(0, this.at).split("\n").length;
        throw new Error(`line ${line}: ${what}`);
    }

    document() {
        const top = {};
        let table = top;
        for (this.blank(); this.at < this.text.length; this.blank()) {
            if (this.takes("[[")) {
                const keys = this.keys();
                this.expect("]]");
                const last = keys.pop();
                const parent = this.descend(top, keys);
                parent[last] ??= [];
                table = {};
                parent[last].push(table);
            } else if (this.takes("[")) {
                const keys = this.keys();
                this.expect("]");
                table = this.descend(top, keys);
            } else {
                this.pair(table);
            }
            this.endOfLine();
        }
        return top;
    }

    descend(table, keys) {
        for (const key of keys) {
            table[key] ??= {};
            // A table below an array of tables belongs to its last one.
            table = Array.isArray(table[key]) ? table[key].at(-1) : table[key];
            if (typeof table !== "object") this.fail(`\`${key}\` is not a table`);
        }
        return table;
    }

    pair(table) {
        const keys = this.keys();
        this.expect("=");
        this.spaces();
        const last = keys.pop();
        const own = this.descend(table, keys);
        if (Object.hasOwn(own, last)) this.fail(`\`${last}\` is there twice`);
        own[last] = this.value();
    }

    keys() {
        const keys = [];
        do {
            this.spaces();
            const bare = this.match(/[A-Za-z0-9_-]+/y);
            keys.push(bare ?? this.string() ?? this.fail("expected a key"));
            this.spaces();
        } while (this.takes("."));
        return keys;
    }

    value() {
        const text = this.string();
        if (text !== undefined) return text;
        if (this.takes("[")) return this.array();
        if (this.takes("{")) return this.table();
        const word = this.match(/[^\s,\]}#]+/y);
        if (word === "true" || word === "false") return word === "true";
        if (/^[+-]?(inf|nan)$/.test(word)) return word.endsWith("nan") ? Number.NaN : word.startsWith("-") ? -Infinity : Infinity;
        const digits = word?.replaceAll("_", "");
        if (/^(0x[0-9a-f]+|0o[0-7]+|0b[01]+|[+-]?\d+(\.\d+)?(e[+-]?\d+)?)$/i.test(digits ?? "")) return Number(digits);
        return this.fail(`expected a value, found ${word ?? "nothing"}`);
    }

    array() {
        const values = [];
        for (this.blank(); !this.takes("]"); this.blank()) {
            values.push(this.value());
            this.blank();
            if (!this.takes(",") && this.text[this.at] !== "]") this.fail("expected `,` or `]`");
        }
        return values;
    }

    table() {
        const table = {};
        for (this.blank(); !this.takes("}"); this.blank()) {
            this.pair(table);
            this.blank();
            if (!this.takes(",") && this.text[this.at] !== "}") this.fail("expected `,` or `}`");
        }
        return table;
    }

    string() {
        if (this.takes('"""')) return this.escaped(this.until('"""', true).replace(/^\r?\n/, ""));
        if (this.takes("'''")) return this.until("'''", false).replace(/^\r?\n/, "");
        if (this.takes('"')) return this.escaped(this.until('"', true));
        if (this.takes("'")) return this.until("'", false);
        return undefined;
    }

    until(end, hasEscapes) {
        const from = this.at;
        while (this.at < this.text.length && !this.text.startsWith(end, this.at)) this.at += hasEscapes && this.text[this.at] === "\\" ? 2 : 1;
        if (this.at >= this.text.length) this.fail(`expected ${end}`);
        const text = this.text.slice(from, this.at);
        this.at += end.length;
        return text;
    }

    escaped(text) {
        const short = { b: "\b", t: "\t", n: "\n", f: "\f", r: "\r", '"': '"', "\\": "\\" };
        return text.replace(/\\(u[0-9a-fA-F]{4}|U[0-9a-fA-F]{8}|\s*\n\s*|.)/gs, (_, code) => {
            if (/^[uU]./.test(code)) return String.fromCodePoint(Number.parseInt(code.slice(1), 16));
            if (/^\s/.test(code)) return "";
            return short[code] ?? this.fail(`invalid escape \\${code}`);
        });
    }

    match(pattern) {
        pattern.lastIndex = this.at;
        const found = pattern.exec(this.text)?.[0];
        this.at += found?.length ?? 0;
        return found;
    }

    takes(token) {
        if (!this.text.startsWith(token, this.at)) return false;
        this.at += token.length;
        return true;
    }

    expect(token) {
        this.spaces();
        if (!this.takes(token)) this.fail(`expected ${token}`);
    }

    spaces() {
        this.match(/[ \t]*/y);
    }

    blank() {
        this.match(/(?:\s|#[^\n]*)*/y);
    }

    endOfLine() {
        if (this.match(/[ \t]*(?:#[^\n]*)?(?:\r?\n|$)/y) === undefined) this.fail("expected the end of the line");
    }
}
