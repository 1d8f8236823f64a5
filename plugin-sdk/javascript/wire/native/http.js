import { natively } from "./host.js";

export const { Request, send } = natively("http");
