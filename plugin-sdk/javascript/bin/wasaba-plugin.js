#!/usr/bin/env node
import { main } from "../lib/build.js";

process.exitCode = await main(process.argv.slice(2));
