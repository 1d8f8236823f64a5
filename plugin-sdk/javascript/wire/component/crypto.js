export { scramSha256, postgresMd5 } from "wasaba:plugin/crypto@0.2.0";
