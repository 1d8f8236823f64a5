// Where each line of a bundle comes from, out of its source map.

const DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/**
 * Runs of [first line in the bundle, number of lines, index of the file, first line in the file], all counted from 1, of the sources that
 * are `wanted`; the files by their last name.
 */
export function runsOf({ mappings, sources }, wanted) {
    const files = [];
    const indices = sources.map((path) => (wanted(path) ? files.push(path.slice(path.lastIndexOf("/") + 1)) - 1 : -1));
    const runs = [];
    let [source, original] = [0, 0];
    for (const [line, segments] of mappings.split(";").entries()) {
        // esbuild begins a line without a mapping at its first column with the place where the line before ended: the next one counts.
        let [first, isCarried] = [undefined, false];
        for (const segment of segments === "" ? [] : segments.split(",")) {
            const [column, bySource, byLine, byColumn] = numbers(segment);
            if (bySource === undefined) continue;
            source += bySource;
            original += byLine;
            if (first !== undefined && !isCarried) continue;
            isCarried = first === undefined && line > 0 && [column, bySource, byLine, byColumn].every((own) => own === 0);
            first = [indices[source], original + 1];
        }
        if (first === undefined || first[0] < 0) continue;
        const last = runs.at(-1);
        const isNext = last !== undefined && last[2] === first[0] && line + 1 - last[0] === last[1] && first[1] - last[3] === last[1];
        if (isNext) last[1] += 1;
        else runs.push([line + 1, 1, ...first]);
    }
    return { files, runs };
}

/** The numbers of a segment: base64, five bits a digit, the lowest bit of all is the sign. */
function numbers(segment) {
    const found = [];
    let [value, shift] = [0, 0];
    for (const char of segment) {
        const digit = DIGITS.indexOf(char);
        value += (digit & 31) << shift;
        shift += 5;
        if (digit & 32) continue;
        found.push(value & 1 ? -(value >> 1) : value >> 1);
        [value, shift] = [0, 0];
    }
    return found;
}
