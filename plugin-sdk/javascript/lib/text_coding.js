// TextDecoder and TextEncoder in QuickJS, which has none. `build` puts them where the plugin, or a package that it uses, names them.

import { decode, encode } from "./utf8.js";

class Decoder {
    constructor(label = "utf-8", { fatal = false } = {}) {
        if (!/^utf-?8$/i.test(label)) throw new RangeError(`only utf-8 is there, not ${label}`);
        this.encoding = "utf-8";
        this.fatal = fatal;
    }

    decode(data = new Uint8Array(0)) {
        const bytes = data instanceof ArrayBuffer ? new Uint8Array(data) : new Uint8Array(data.buffer, data.byteOffset, data.byteLength);
        const text = decode(bytes, { isLenient: !this.fatal });
        if (text === undefined) throw new TypeError("the data is not UTF-8");
        return text.replace(/^\ufeff/, "");
    }
}

class Encoder {
    get encoding() {
        return "utf-8";
    }

    encode(text = "") {
        return encode(String(text));
    }
}

export { Decoder as TextDecoder, Encoder as TextEncoder };
