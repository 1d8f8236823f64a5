export { Connection, TlsOptions } from "wasaba:plugin/tcp@0.2.0";
