export { File } from "wasaba:plugin/files@0.2.0";
