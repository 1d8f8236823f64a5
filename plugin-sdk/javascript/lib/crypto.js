// What log-ins compute from a secret. The agent does it, since it has the secret's text, and natively.

import * as wire from "#wire/crypto";
import { bytes, handle, text, whole } from "./check.js";
import { passedOn } from "./errors.js";

/** SCRAM-SHA-256: `authMessage` is what both sides sign. The agent caches the last key. */
export function scramSha256(password, salt, iterations, authMessage) {
    const [salted, count] = [bytes(salt, "a salt"), whole(iterations, "a number of iterations", 0xffff_ffff)];
    const { clientProof, serverSignature } = passedOn(() => wire.scramSha256(handle(password), salted, count, text(authMessage, "a message")));
    return { clientProof: Uint8Array.from(clientProof), serverSignature: Uint8Array.from(serverSignature) };
}

/** PostgreSQL's answer to a request for an MD5 password. */
export function postgresMd5(password, user, salt) {
    return wire.postgresMd5(handle(password), text(user, "a user"), bytes(salt, "a salt"));
}
