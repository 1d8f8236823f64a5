// UTF-8 without TextDecoder, which QuickJS does not have. Loops over bytes are slow in an interpreter, so the work is left to built-in
// functions: a page of ASCII costs no loop at all.

const CHUNK = 8_192;

/** Text of bytes; `undefined` if they are not UTF-8, or U+FFFD for what is not. */
export function decode(bytes, { isLenient = false } = {}) {
    let latin = "";
    for (let at = 0; at < bytes.length; at += CHUNK) {
        latin += String.fromCharCode.apply(null, bytes.subarray(at, at + CHUNK));
    }
    if (!/[\x80-\xff]/.test(latin)) return latin;
    let isValid = true;
    const text = latin.replace(
        /[\xc2-\xdf][\x80-\xbf]|\xe0[\xa0-\xbf][\x80-\xbf]|\xed[\x80-\x9f][\x80-\xbf]|[\xe1-\xec\xee\xef][\x80-\xbf]{2}|\xf0[\x90-\xbf][\x80-\xbf]{2}|\xf4[\x80-\x8f][\x80-\xbf]{2}|[\xf1-\xf3][\x80-\xbf]{3}|[\x80-\xff]/g,
        (found) => {
            const [a, b, c, d] = [0, 1, 2, 3].map((at) => found.charCodeAt(at));
            if (found.length === 2) return String.fromCharCode(((a & 0x1f) << 6) | (b & 0x3f));
            if (found.length === 3) {
                return String.fromCharCode(((a & 0x0f) << 12) | ((b & 0x3f) << 6) | (c & 0x3f));
            }
            if (found.length === 4) {
                return String.fromCodePoint(((a & 0x07) << 18) | ((b & 0x3f) << 12) | ((c & 0x3f) << 6) | (d & 0x3f));
            }
            isValid = false;
            return "\ufffd";
        },
    );
    return isValid || isLenient ? text : undefined;
}

/** Bytes of text. */
export function encode(text) {
    // Each byte as a character: built-in, and fast for ASCII. A lone half of a surrogate pair becomes U+FFFD.
    const latin = unescape(encodeURIComponent(/[\ud800-\udfff]/.test(text) ? wellFormed(text) : text));
    const bytes = new Uint8Array(latin.length);
    for (let at = 0; at < latin.length; at += 1) bytes[at] = latin.charCodeAt(at);
    return bytes;
}

function wellFormed(text) {
    return text.replace(/[\ud800-\udbff][\udc00-\udfff]|[\ud800-\udfff]/g, (found) => (found.length === 2 ? found : "\ufffd"));
}
