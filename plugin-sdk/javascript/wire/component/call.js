export { remainingMs, minute, limit, agentVersion, has } from "wasaba:plugin/call@0.2.0";
