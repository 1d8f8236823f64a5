import { natively } from "./host.js";

export const { remainingMs, minute, limit, agentVersion, has } = natively("call");
