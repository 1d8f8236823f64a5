import { natively } from "./host.js";

const kv = natively("kv");
export const { get, set, keys } = kv;
const remove = kv.delete;
export { remove as delete };
