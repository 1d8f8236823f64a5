// Reading the files that the operator granted by settings of kind `file`.

import { File as WireFile } from "#wire/files";
import { text, whole } from "./check.js";
import { u64 } from "./engine.js";
import { Failed, TooLarge, passedOn } from "./errors.js";
import { decode } from "./utf8.js";

/** Opens the file, whose path is exactly as in the setting. */
export function open(path) {
    return new File(passedOn(() => WireFile.open(text(path, "a path"))), path);
}

/** An open file. It stays the same one when its log is rotated. */
export class File {
    #wire;

    constructor(wire, path) {
        this.#wire = wire;
        this.path = path;
    }

    /** Its size, when it was modified, and which file it is: one that took its place has another id. */
    stat() {
        const { size, modifiedMs, id } = passedOn(() => this.#wire.stat());
        // Ids are compared, not counted with: as text they are exact.
        return { size: Number(size), modified: new Date(Number(modifiedMs)), id: String(id) };
    }

    /** At most `maxBytes` bytes from `offset` on; none past the end. The agent returns at most 4 MiB at once, unless configured. */
    readAt(offset, maxBytes) {
        whole(offset, "an offset", Number.MAX_SAFE_INTEGER);
        return Uint8Array.from(passedOn(() => this.#wire.readAt(u64(offset), whole(maxBytes, "a number of bytes", 0xffff_ffff))));
    }
}

/** The whole file, if it has at most `maxBytes` bytes. */
export function read(path, maxBytes) {
    const file = open(path);
    const parts = [];
    let length = 0;
    for (;;) {
        const part = file.readAt(length, 0xffff_ffff);
        if (part.length === 0) break;
        parts.push(part);
        length += part.length;
        if (length > maxBytes) throw new TooLarge(`\`${path}\` is larger than ${maxBytes} bytes`);
    }
    if (parts.length === 1) return parts[0];
    const all = new Uint8Array(length);
    let at = 0;
    for (const part of parts) {
        all.set(part, at);
        at += part.length;
    }
    return all;
}

/** The whole file as text, if it has at most `maxBytes` bytes. */
export function readText(path, maxBytes) {
    const found = decode(read(path, maxBytes));
    if (found === undefined) throw new Failed(`\`${path}\` is not UTF-8 text`);
    return found;
}
