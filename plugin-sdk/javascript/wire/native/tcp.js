import { natively } from "./host.js";

export const { Connection, TlsOptions } = natively("tcp");
