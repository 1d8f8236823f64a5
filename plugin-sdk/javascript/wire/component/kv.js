export { get, set, delete, keys } from "wasaba:plugin/kv@0.2.0";
