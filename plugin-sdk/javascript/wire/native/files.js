import { natively } from "./host.js";

export const { File } = natively("files");
