/* A plugin that uses everything in the contract once: each export, each function of each capability. */
#include <string.h>

#include "wasaba.h"

static const wasaba_setting_t url = {WASABA_URL, "url", .required = true, .help = "a page to get"};
static const wasaba_setting_t host = {WASABA_HOST, "host", "localhost", "an echo server"};
static const wasaba_setting_t port = {WASABA_PORT, "port", "7", "an echo server", .host = &host};
static const wasaba_setting_t endpoint = {WASABA_ENDPOINT, "endpoint", .repeatable = true, .help = "servers that are not there"};
static const wasaba_setting_t echo_socket = {WASABA_UNIX_SOCKET, "socket", .required = true, .help = "another echo server"};
static const wasaba_setting_t file = {WASABA_FILE, "file", .required = true, .help = "a file to read"};
static const wasaba_setting_t text = {WASABA_TEXT, "text", "text", "any text", .repeatable = true};
static const wasaba_setting_t token = {WASABA_SECRET, "token", .help = "a secret"};
static const wasaba_setting_t integer = {WASABA_INTEGER, "integer", "-1", "a whole number"};
static const wasaba_setting_t number = {WASABA_NUMBER, "number", "0.5", "a number"};
static const wasaba_setting_t boolean = {WASABA_BOOLEAN, "boolean", "true", "yes or no"};
static const wasaba_setting_t patience = {WASABA_DURATION, "patience", "5s", "how long to wait"};
static const wasaba_setting_t tls_skip_verify = {WASABA_TLS_SKIP_VERIFY, "tls-skip-verify", "false", "accept any certificate"};
static const wasaba_setting_t sslmode = {WASABA_TLS_MODE, "sslmode", "verify-full", "how TLS is used", .aliases = "verify-full=full"};

/* The size of the file, which is read whole and in parts. */
static bool file_size(uint64_t *size) {
    const char *path = wasaba_text(&file);
    size_t length;
    const char *whole = wasaba_file_read(path, 1 << 20, &length);
    wasaba_file_t *opened = whole ? wasaba_file_open(path) : NULL;
    wasaba_stat_t stat;
    wasaba_bytes_t first;
    if (!opened || !wasaba_file_stat(opened, &stat) || !wasaba_file_read_at(opened, 0, 1, &first)) return false;
    wasaba_file_close(opened);
    if (stat.size != length || !stat.id || memcmp(whole, first.bytes, first.size))
        return wasaba_failed("a part of the file differs from the whole");
    *size = stat.size;
    return true;
}

/* How many bytes an echo server sends back. */
static bool echo(wasaba_connection_t *connection, unsigned *echoed) {
    const wasaba_secret_t *secret = wasaba_secret(&token);
    wasaba_tcp_set_timeout(connection, 5000);
    if (!wasaba_tcp_is_local(connection)) return wasaba_failed("the echo server is not on this machine");
    if (!wasaba_tcp_printf(connection, "%s", "everything")) return false;
    if (secret && !wasaba_tcp_write_secret(connection, "<", secret, ">")) return false;
    if (!wasaba_tcp_finish(connection)) return false;
    wasaba_bytes_t part;
    *echoed = 0;
    do {
        if (!wasaba_tcp_read(connection, 4, &part)) return false;
        *echoed += (unsigned)part.size;
    } while (part.size);
    wasaba_tcp_close(connection);
    return true;
}

/* How often the plugin was called. */
static bool count(unsigned char *calls) {
    wasaba_bytes_t before;
    *calls = wasaba_kv_get("calls", &before) && before.size ? before.bytes[0] : 0;
    if (*calls < 255) ++*calls;
    if (!wasaba_kv_set("calls", calls, 1, 0) || !wasaba_kv_set("gone", "soon", 4, 0)) return false;
    wasaba_kv_delete("gone");
    if (!wasaba_kv_set("calls.last", calls, 1, 60000)) return false;
    const char *const *keys = wasaba_kv_keys("c");
    if (!keys[0] || strcmp(keys[0], "calls") || !keys[1] || strcmp(keys[1], "calls.last") || keys[2])
        return wasaba_failed("there are unexpected keys");
    return true;
}

static bool collect(void) {
    wasaba_log_debug("debug");
    wasaba_log_info("info");
    wasaba_log_warning("warning");
    const wasaba_secret_t *secret = wasaba_secret(&token);
    wasaba_request_t *request = wasaba_http_get(wasaba_text(&url));
    wasaba_http_header(request, "accept", "*/*");
    wasaba_http_header_secret(request, "x-token", "token ", secret);
    wasaba_http_basic_auth(request, "me", secret);
    wasaba_http_header_lines(request, secret);
    wasaba_http_follow(request, 1);
    if (!wasaba_http_has_header(request, "Accept")) return wasaba_failed("the request has no header");
    const wasaba_response_t *page = wasaba_http_send(request);
    if (!page) return false;
    wasaba_connection_t *stream = wasaba_tcp_connect(wasaba_text(&host), wasaba_port(&port), 0);
    if (!stream) return false;
    wasaba_connection_t *other = wasaba_tcp_connect(wasaba_text(&host), wasaba_port(&port), 5000);
    if (!other) return false;
    wasaba_tcp_close(other);
    wasaba_connection_t *unix_stream = wasaba_tcp_connect_unix(wasaba_text(&echo_socket), 0);
    uint64_t size, samples, minute = wasaba_call_minute();
    unsigned char calls;
    if (!unix_stream || !file_size(&size) || !count(&calls)) return false;
    if (wasaba_call_remaining_ms() > 60000 || minute % 60 || !wasaba_call_limit("samples", &samples) || samples != 1000 ||
        !*wasaba_call_agent_version() || !wasaba_call_has("tcp") || wasaba_call_has("everything"))
        return wasaba_failed("the call does not know what it is");
    unsigned echoed, echoed_by_unix;
    if (!echo(stream, &echoed) || !echo(unix_stream, &echoed_by_unix)) return false;
    wasaba_sample(page->status, "everything.done.http");
    wasaba_sample(echoed, "everything.done.tcp");
    wasaba_sample(echoed_by_unix, "everything.done.unix");
    wasaba_sample(size, "everything.done.file");
    wasaba_label(wasaba_sample(calls, "everything.done.calls"), "kind", "calls");
    wasaba_sample(calls, "everything.done.then")->unix_seconds = minute - 60;
    static const char *const kinds[] = {"minute", "second", "wraps", "delta"};
    for (size_t kind = 0; kind < 4; kind++) wasaba_sample(calls, "everything.rates.a.%s", kinds[kind]);
    for (const char *const *server = wasaba_all(&endpoint); *server; server++) {
        const char *name;
        uint16_t at;
        if (!wasaba_endpoint(*server, &name, &at)) return false;
        if (!wasaba_tcp_connect(name, at, 0)) wasaba_problem("%s", *server);
    }
    return true;
}

static bool check(void) {
    wasaba_request_t *request = wasaba_http_request("HEAD", wasaba_text(&url));
    wasaba_http_body(request, "", 0);
    const wasaba_response_t *answer = wasaba_http_send(request);
    if (!answer) return false;
    if (answer->status == 200)
        wasaba_ok("", "the page is there");
    else if (answer->status < 500)
        wasaba_warning("", "the page answers %u", answer->status);
    else
        wasaba_critical("", "the page answers %u", answer->status);
    wasaba_unknown("else", "nothing is known of it");
    return true;
}

/* Never called, but it links the functions. */
static bool login(void) {
    const wasaba_secret_t *secret = wasaba_secret(&token);
    if (!secret) return wasaba_misconfigured("`token` is not set");
    wasaba_connection_t *connection = wasaba_tcp_connect(wasaba_text(&host), wasaba_port(&port), 0);
    const wasaba_tls_options_t options = {"localhost", (const char *const[]){"h2", NULL}};
    wasaba_bytes_t proof, signature, salt = {(const uint8_t *)"salt", 4};
    if (!connection || !wasaba_tcp_start_tls(connection, &options, NULL)) return false;
    if (!wasaba_crypto_scram_sha256(secret, salt, 4096, "", &proof, &signature)) return false;
    const char *md5 = wasaba_crypto_postgres_md5(secret, "me", signature), *revealed = wasaba_secret_reveal(secret);
    if (!md5 || !revealed) return false;
    wasaba_document("", "\"%s%s\"", revealed, md5);
    return true;
}

static bool gather(void) {
    if (!strcmp(wasaba_text(&text), "never")) return login();
    size_t texts = 0;
    for (const char *const *each = wasaba_all(&text); *each; each++) texts++;
    wasaba_document("", "{\"texts\":%zu}", texts);
    wasaba_document("all-more", "[]");
    return true;
}

WASABA_PLUGIN(.name = "everything", .version = "0.1.0", .summary = "uses everything in the contract once",
              .reaches = WASABA_REACH_HTTP | WASABA_REACH_TCP | WASABA_REACH_UNIX | WASABA_REACH_FILE,
              .attributes = WASABA_ATTRIBUTES({"license", "Apache-2.0"}, {"homepage", "https://example.com/everything"},
                                              {"interval-seconds", "60"}, {"timeout-seconds", "10"}, {"agent", "0.1.0"}),
              .settings = WASABA_SETTINGS(&url, &host, &port, &endpoint, &echo_socket, &file, &text, &token, &integer, &number, &boolean,
                                          &patience, &tls_skip_verify, &sslmode),
              .graphs = WASABA_GRAPHS(
                  {"everything.done", "Everything", WASABA_UNIT_INTEGER,
                   WASABA_LINES({WASABA_GAUGE, "http", "Status of the page"}, {WASABA_GAUGE, "tcp", "Echoed bytes", .stacked = true},
                                {WASABA_GAUGE, "unix", "Echoed bytes", .stacked = true}, {WASABA_GAUGE, "file", "Length of the file"},
                                {WASABA_GAUGE, "calls", "Calls so far"}, {WASABA_GAUGE, "then", "A minute ago"})},
                  {"everything.rates.#", "Rates", WASABA_UNIT_BYTES_PER_SECOND,
                   WASABA_LINES({WASABA_PER_MINUTE, "minute", "Per minute"}, {WASABA_PER_MINUTE_32, "wraps", "Per minute"},
                                {WASABA_DELTA, "delta", "Since the last call"}, {WASABA_PER_SECOND, "*", "Per second", .scale = 8})}))
WASABA_METRICS(collect)
WASABA_CHECKS(check)
WASABA_METADATA(gather)
