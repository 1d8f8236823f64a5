export { Request, send } from "wasaba:plugin/http@0.2.0";
