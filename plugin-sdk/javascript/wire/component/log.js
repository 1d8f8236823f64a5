export { write } from "wasaba:plugin/log@0.2.0";
