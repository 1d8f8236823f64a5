// Types of the fake host, for native tests.

import type { Plugin, Report } from "wasaba-plugin";

/** What the operator writes: keys as in the declaration, or with `-`. */
type Given = Record<string, string | number | boolean | readonly (string | number)[]>;

/** What is outside of the plugin: canned answers, files, and what is kept from call to call. */
export class Host {
    constructor(options?: { allow?: readonly string[]; reveal?: boolean; virtualHost?: string });
    /** In seconds since 1970. */
    now: number;
    /** What was logged: pairs of level and line. */
    logged: [string, string][];
    /**
     * Adds an HTTP response; an object is sent as JSON. Several to the same request are used in order, the last one again and again. A request
     * without the `requestHeaders`, or with another body than `requestBody`, is an error of the call.
     */
    answers(
        url: string,
        body?: string | Uint8Array | object,
        options?: {
            method?: string;
            status?: number;
            headers?: Record<string, string>;
            requestHeaders?: Record<string, string>;
            requestBody?: string | Uint8Array;
            unreachable?: string;
        },
    ): this;
    /** Adds a conversation with `host:port` or `unix:/path`. */
    talks(
        peer: string,
        turns?: readonly ({ expect: string | Uint8Array } | { send: string | Uint8Array })[],
        options?: { unreachable?: string },
    ): this;
    hasFile(path: string, content: string | Uint8Array): this;
    /** Adds a file that cannot be read; without a reason, one that is missing. */
    hasUnreadableFile(path: string, why?: string): this;
    /**
     * Calls `collect` with these settings, and returns the readings by name, as the plugin gave them: before `scale`, and before the agent
     * makes rates of counters. What is posted is in the cases of `cases`.
     */
    collect(plugin: Plugin<any>, settings?: Given): Record<string, number | bigint>;
    /** Calls `check` with these settings. */
    check(plugin: Plugin<any>, settings?: Given): Report[];
    /** Calls `metadata` with these settings; namespaces with their JSON values. */
    metadata(plugin: Plugin<any>, settings?: Given): Record<string, unknown>;
    /** Does something with this host as the agent, for tests of what is below the plugin's functions. */
    run<T>(work: () => T): T;
}

/** A case of `wasaba plugin test`. */
export class Case {
    private constructor();
    readonly name: string;
    /** Runs it; an error says how the result differs. */
    run(plugin: Plugin<any>): void;
}

/** The cases of a file such as `tests.toml`, without those that only the agent can run. */
export function cases(file: string): Case[];
