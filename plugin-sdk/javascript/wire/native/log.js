import { natively } from "./host.js";

export const { write } = natively("log");
