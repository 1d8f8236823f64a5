import { natively } from "./host.js";

export const { scramSha256, postgresMd5 } = natively("crypto");
