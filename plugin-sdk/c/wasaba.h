/* Plugins for the wasaba agent in C: a description, a function that reads everything once a minute, and two macros.
 *
 *     static const wasaba_setting_t url = {WASABA_URL, "url", "http://localhost:7070/stats", .help = "page as JSON"};
 *
 *     static bool collect(void) {
 *         const wasaba_json_t *page = wasaba_http_json(wasaba_http_get(wasaba_text(&url)));
 *         if (!page) return false;
 *         wasaba_sample(wasaba_json_whole(page, "jobs"), "queue.jobs.waiting");
 *         return true;
 *     }
 *
 *     WASABA_PLUGIN(.name = "queue", .version = "0.1.0", .summary = "jobs of the queue", .reaches = WASABA_REACH_HTTP,
 *                   .settings = WASABA_SETTINGS(&url),
 *                   .graphs = WASABA_GRAPHS({"queue.jobs", "Jobs", WASABA_UNIT_INTEGER,
 *                                            WASABA_LINES({WASABA_GAUGE, "waiting", "Waiting"})}))
 *     WASABA_METRICS(collect)
 *
 * A component imports and exports only what the plugin's code uses. What functions return lives until the call ends: nothing needs to
 * be freed, and everything that they are given is copied. A function that fails returns false or NULL and keeps the error, which is the
 * call's result if the plugin returns false, too. A mistake of the plugin's author is the call's result in any case, with file and line.
 *
 * The contract, the folder wit of wasaba, documents what each kind of setting means and grants, and how readings become values. */
#ifndef WASABA_H
#define WASABA_H

#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#if defined(__GNUC__)
#define WASABA_PRINTF(format, arguments) __attribute__((__format__(__printf__, format, arguments)))
#else
#define WASABA_PRINTF(format, arguments)
#endif

/* ---- The description ---- */

/* What the plugin reaches through capabilities. Everything else is denied to it, whatever the operator grants. */
enum { WASABA_REACH_HTTP = 1, WASABA_REACH_TCP = 2, WASABA_REACH_UNIX = 4, WASABA_REACH_FILE = 8 };

typedef enum {
    /* Any text. */
    WASABA_TEXT = 1,
    /* Any text that the agent never shows; the plugin gets a handle. It has no default. */
    WASABA_SECRET,
    /* A whole number of 64 bits. */
    WASABA_INTEGER,
    WASABA_NUMBER,
    /* `true` or `false`. */
    WASABA_BOOLEAN,
    /* A length of time such as `500ms`, `10s`, `5m`. */
    WASABA_DURATION,
    /* An absolute http or https URL, and the grant to fetch from its server: scheme, host and port. */
    WASABA_URL,
    /* A host and a port, `db:5432`, and the grant to connect there. */
    WASABA_ENDPOINT,
    /* A host's name or address; together with the port whose `.host` it is, a grant. */
    WASABA_HOST,
    WASABA_PORT,
    /* The absolute path of a unix socket, and the grant to connect to it. */
    WASABA_UNIX_SOCKET,
    /* The absolute path of a file, and the grant to read it. */
    WASABA_FILE,
    /* With `true` the agent accepts any certificate on this instance's connections. */
    WASABA_TLS_SKIP_VERIFY,
    /* `off`, `encrypt`, `ca` or `full`. */
    WASABA_TLS_MODE,
} wasaba_setting_kind_t;

typedef struct wasaba_setting {
    wasaba_setting_kind_t kind;
    const char *key;
    /* The value if the operator sets none, or NULL. */
    const char *initial;
    /* One sentence for the operator: lower case, without a full stop. */
    const char *help;
    bool required, repeatable;
    /* Of a port: its host. */
    const struct wasaba_setting *host;
    /* Of a TLS mode: other words, and which of the four they mean: `require=encrypt verify-full=full`. */
    const char *aliases;
} wasaba_setting_t;

/* How the agent turns what was read into the value that it posts. */
typedef enum {
    /* As it is. */
    WASABA_GAUGE = 1,
    /* A counter: its growth since the previous call, per minute, per second. */
    WASABA_DELTA,
    WASABA_PER_MINUTE,
    WASABA_PER_SECOND,
    /* A counter that wraps at 2^32. */
    WASABA_PER_MINUTE_32,
} wasaba_reading_t;

typedef struct {
    wasaba_reading_t reading;
    const char *name, *label;
    bool stacked;
    /* The value is multiplied by it last; 0 stands for none. */
    double scale;
} wasaba_metric_t;

/* What Mackerel shows at a graph's axis. */
typedef enum {
    WASABA_UNIT_FLOAT = 1,
    WASABA_UNIT_INTEGER,
    WASABA_UNIT_PERCENTAGE,
    WASABA_UNIT_SECONDS,
    WASABA_UNIT_MILLISECONDS,
    WASABA_UNIT_BYTES,
    WASABA_UNIT_BYTES_PER_SECOND,
    WASABA_UNIT_BITS_PER_SECOND,
    WASABA_UNIT_IOPS,
} wasaba_unit_t;

typedef struct {
    /* Segments joined by dots, without `custom.`; a segment may be `*`, and one `#`. */
    const char *name, *label;
    wasaba_unit_t unit;
    const wasaba_metric_t *lines;
} wasaba_graph_t;

typedef struct {
    const char *key, *value;
} wasaba_attribute_t;

typedef struct {
    const char *name, *version, *summary;
    unsigned reaches;
    const wasaba_setting_t *const *settings;
    const wasaba_graph_t *graphs;
    /* Further facts: `license`, `homepage`, `interval-seconds`, `timeout-seconds`, `agent`. */
    const wasaba_attribute_t *attributes;
    /* Adds graphs that depend on an instance's settings, by `wasaba_add_graph`; or NULL. It must not use a capability. */
    void (*graphs_by_settings)(void);
} wasaba_plugin_t;

#define WASABA_SETTINGS(...) ((const wasaba_setting_t *const[]){__VA_ARGS__, NULL})
#define WASABA_GRAPHS(...) ((const wasaba_graph_t[]){__VA_ARGS__, {0}})
#define WASABA_LINES(...) ((const wasaba_metric_t[]){__VA_ARGS__, {0}})
#define WASABA_ATTRIBUTES(...) ((const wasaba_attribute_t[]){__VA_ARGS__, {0}})

/* Declares the plugin, once, and what it does: a function `static bool collect(void)` of each. */
#define WASABA_PLUGIN(...)                                            \
    const wasaba_plugin_t wasaba_plugin = {__VA_ARGS__};              \
    WASABA_EXPORT("about@0.2.0#describe", about_describe, (void), ())

#define WASABA_METRICS(function)                                                                                  \
    bool (*const wasaba_collector)(void) = (function);                                                           \
    WASABA_EXPORT("metrics@0.2.0#graphs", metrics_graphs, (uint8_t * list, size_t length), (list, length))       \
    WASABA_EXPORT("metrics@0.2.0#collect", metrics_collect, (uint8_t * list, size_t length), (list, length))

#define WASABA_CHECKS(function)                       \
    bool (*const wasaba_checker)(void) = (function);  \
    WASABA_EXPORT("checks@0.2.0#check", checks_check, (uint8_t * list, size_t length), (list, length))

#define WASABA_METADATA(function)                     \
    bool (*const wasaba_gatherer)(void) = (function); \
    WASABA_EXPORT("metadata@0.2.0#gather", metadata_gather, (uint8_t * list, size_t length), (list, length))

#ifdef __wasm__
/* Exports a function of the generated bindings. */
#define WASABA_EXPORT(name, function, parameters, arguments)                                                        \
    uint8_t *__wasm_export_exports_wasaba_plugin_##function parameters;                                             \
    __attribute__((__export_name__("wasaba:plugin/" name))) uint8_t *wasaba_export_##function parameters;           \
    uint8_t *wasaba_export_##function parameters { return __wasm_export_exports_wasaba_plugin_##function arguments; }
#else
/* The test host calls what it finds. */
#define WASABA_EXPORT(name, function, parameters, arguments)
#endif

extern const wasaba_plugin_t wasaba_plugin;
/* Only those that the plugin has. */
extern bool (*const wasaba_collector)(void) __attribute__((__weak__));
extern bool (*const wasaba_checker)(void) __attribute__((__weak__));
extern bool (*const wasaba_gatherer)(void) __attribute__((__weak__));

/* Adds a graph of this instance, in `graphs_by_settings`. */
void wasaba_add_graph(const wasaba_graph_t *graph);

/* ---- Memory ---- */

/* Memory of zeros that lives until the call ends. */
void *wasaba_alloc(size_t size);
/* A text that lives until the call ends. */
char *wasaba_printf(const char *format, ...) WASABA_PRINTF(1, 2);
char *wasaba_vprintf(const char *format, va_list arguments);
/* A text as one segment of a metric's name: each character that Mackerel does not accept there becomes `_`. */
const char *wasaba_segment(const char *text);

typedef struct {
    const uint8_t *bytes;
    size_t size;
} wasaba_bytes_t;

/* ---- Errors ---- */

/* Who has to act. */
typedef enum {
    /* Anything else: the target's answer is unusable. */
    WASABA_FAILED,
    /* The settings cannot work: the operator has to fix them. */
    WASABA_MISCONFIGURED,
    /* The target refuses the user, the password or the certificate: the operator has to fix them. */
    WASABA_UNAUTHORIZED,
    /* The target does not answer: it is down, or the network is. */
    WASABA_UNREACHABLE,
    /* It does not answer in time. */
    WASABA_TIMEOUT,
    /* The agent refused a capability: a grant is missing. Pass on what the capability said. */
    WASABA_DENIED,
    /* The target is too old, too new, or another thing than the plugin knows. */
    WASABA_UNSUPPORTED,
    /* A request that makes no sense. */
    WASABA_INVALID,
    WASABA_TOO_LARGE,
    WASABA_TOO_COSTLY,
    WASABA_FULL,
} wasaba_kind_t;

typedef struct {
    wasaba_kind_t kind;
    const char *message;
    /* How long the target asked to be left alone, or 0. */
    uint64_t retry_after_ms;
    /* What went wrong with TLS: `certificate`, `alert`, `not-tls`, or NULL. */
    const char *tls;
} wasaba_error_t;

/* The last error, or NULL. */
const wasaba_error_t *wasaba_error(void);
/* Forgets it. Returning true does, too. */
void wasaba_clear_error(void);

/* Keep an error and return false. The text is for the operator: it names the thing and, if possible, the cure, as a lower-case fragment. */
bool wasaba_fail(wasaba_kind_t kind, const char *format, ...) WASABA_PRINTF(2, 3);
#define wasaba_failed(...) wasaba_fail(WASABA_FAILED, __VA_ARGS__)
#define wasaba_misconfigured(...) wasaba_fail(WASABA_MISCONFIGURED, __VA_ARGS__)
#define wasaba_unauthorized(...) wasaba_fail(WASABA_UNAUTHORIZED, __VA_ARGS__)
#define wasaba_unreachable(...) wasaba_fail(WASABA_UNREACHABLE, __VA_ARGS__)
#define wasaba_timeout(...) wasaba_fail(WASABA_TIMEOUT, __VA_ARGS__)
#define wasaba_unsupported(...) wasaba_fail(WASABA_UNSUPPORTED, __VA_ARGS__)
#define wasaba_invalid(...) wasaba_fail(WASABA_INVALID, __VA_ARGS__)
/* A mistake of the plugin itself: it fails with this file and line, whatever it returns. */
#define wasaba_bug(...) wasaba_bug_at(__FILE__, __LINE__, __VA_ARGS__)
bool wasaba_bug_at(const char *file, int line, const char *format, ...) WASABA_PRINTF(3, 4);
/* The target asked to be left alone: the agent skips the plugin until then. */
bool wasaba_busy(uint64_t retry_after_ms, const char *format, ...) WASABA_PRINTF(2, 3);

/* ---- Settings: what the operator wrote, validated, with the defaults filled in ---- */

typedef struct wasaba_secret wasaba_secret_t;

/* The value, which is required or has a default. If it is not set, it is empty and the call is misconfigured. */
#define wasaba_text(setting) wasaba_text_at(__FILE__, __LINE__, setting)
/* The value, or NULL if it is not set. A secret is read with wasaba_secret only. */
#define wasaba_get(setting) wasaba_get_at(__FILE__, __LINE__, setting)
/* Each value of a repeatable setting, in the operator's order. NULL ends them. */
#define wasaba_all(setting) wasaba_all_at(__FILE__, __LINE__, setting)
/* The secret, or NULL if it is not set or empty. */
#define wasaba_secret(setting) wasaba_secret_at(__FILE__, __LINE__, setting)
#define wasaba_integer(setting) wasaba_integer_at(__FILE__, __LINE__, setting)
#define wasaba_number(setting) wasaba_number_at(__FILE__, __LINE__, setting)
#define wasaba_boolean(setting) wasaba_boolean_at(__FILE__, __LINE__, setting)
#define wasaba_port(setting) ((uint16_t)wasaba_integer_at(__FILE__, __LINE__, setting))
#define wasaba_duration_ms(setting) wasaba_duration_ms_at(__FILE__, __LINE__, setting)
/* Splits `db:5432`, a value of kind endpoint. */
bool wasaba_endpoint(const char *value, const char **host, uint16_t *port);

const char *wasaba_text_at(const char *file, int line, const wasaba_setting_t *setting);
const char *wasaba_get_at(const char *file, int line, const wasaba_setting_t *setting);
const char *const *wasaba_all_at(const char *file, int line, const wasaba_setting_t *setting);
const wasaba_secret_t *wasaba_secret_at(const char *file, int line, const wasaba_setting_t *setting);
int64_t wasaba_integer_at(const char *file, int line, const wasaba_setting_t *setting);
double wasaba_number_at(const char *file, int line, const wasaba_setting_t *setting);
bool wasaba_boolean_at(const char *file, int line, const wasaba_setting_t *setting);
uint64_t wasaba_duration_ms_at(const char *file, int line, const wasaba_setting_t *setting);

/* Its length in bytes, as for a message that announces it. */
size_t wasaba_secret_length(const wasaba_secret_t *secret);
/* Its text. NULL, denied, unless the operator's table has `reveal = true`. */
const char *wasaba_secret_reveal(const wasaba_secret_t *secret);

/* ---- What a call returns ---- */

typedef struct {
    bool is_unsigned;
    double number;
    uint64_t whole;
} wasaba_value_t;

typedef struct wasaba_sample {
    const char *name;
    wasaba_value_t value;
    /* When it was read, in seconds since 1970; 0 is now. */
    uint64_t unix_seconds;
    /* The custom identifier of its host, if it is not the one of the operator's table; or NULL. */
    const char *host;
    wasaba_attribute_t *labels;
    size_t label_count;
} wasaba_sample_t;

wasaba_value_t wasaba_float(double number);
wasaba_value_t wasaba_unsigned(uint64_t number);
wasaba_value_t wasaba_signed(int64_t number);

/* Adds a number with the full name of its metric, a printf format: the graph's name, a dot, the metric's name. Whole numbers stay exact.
 * Returns the sample, for its time, host and labels. */
#define wasaba_sample(value, ...) wasaba_add_sample(__FILE__, __LINE__, WASABA_VALUE(value), __VA_ARGS__)
#ifndef __cplusplus
#define WASABA_VALUE(value)                                                                                                              \
    _Generic((value), float: wasaba_float, double: wasaba_float, _Bool: wasaba_unsigned, unsigned char: wasaba_unsigned,                 \
             unsigned short: wasaba_unsigned, unsigned: wasaba_unsigned, unsigned long: wasaba_unsigned,                                 \
             unsigned long long: wasaba_unsigned, char: wasaba_signed, signed char: wasaba_signed, short: wasaba_signed,                 \
             int: wasaba_signed, long: wasaba_signed, long long: wasaba_signed)(value)
#endif
wasaba_sample_t *wasaba_add_sample(const char *file, int line, wasaba_value_t value, const char *format, ...) WASABA_PRINTF(4, 5);
/* Adds a label, which Mackerel does not have. */
wasaba_sample_t *wasaba_label(wasaba_sample_t *sample, const char *name, const char *value);

/* Says that a target, in the operator's words, failed with the last error, while others did not. */
void wasaba_problem(const char *target_format, ...) WASABA_PRINTF(1, 2);

/* Reports of a check. `name` is empty, or which of several checks it is. */
void wasaba_ok(const char *name, const char *format, ...) WASABA_PRINTF(2, 3);
void wasaba_warning(const char *name, const char *format, ...) WASABA_PRINTF(2, 3);
void wasaba_critical(const char *name, const char *format, ...) WASABA_PRINTF(2, 3);
void wasaba_unknown(const char *name, const char *format, ...) WASABA_PRINTF(2, 3);

/* A document of metadata: JSON text. `name_space` is empty for the one of the operator's table. */
void wasaba_document(const char *name_space, const char *json_format, ...) WASABA_PRINTF(2, 3);

/* Adds `name` to the samples and returns true: 1 if `collected`; 0, alone, if the target did not answer or its answer is unusable. That
 * is logged when it begins and when it ends. An error that the operator has to fix stays one.
 *
 *     return wasaba_up(read_everything(), "queue.up.up"); */
#define wasaba_up(collected, ...) wasaba_up_at(__FILE__, __LINE__, collected, __VA_ARGS__)
bool wasaba_up_at(const char *file, int line, bool collected, const char *format, ...) WASABA_PRINTF(4, 5);

/* ---- http: the agent speaks HTTP and TLS ---- */

typedef struct wasaba_request wasaba_request_t;

typedef struct {
    const char *name;
    wasaba_bytes_t value;
} wasaba_header_t;

typedef struct {
    const char *url;
    unsigned status;
    const wasaba_header_t *headers;
    size_t header_count;
    /* With a zero behind its end. */
    const char *body;
    size_t size;
} wasaba_response_t;

wasaba_request_t *wasaba_http_get(const char *url);
wasaba_request_t *wasaba_http_request(const char *method, const char *url);
/* Of headers with one name the last counts. */
void wasaba_http_header(wasaba_request_t *request, const char *name, const char *value);
/* `prefix` and the secret: "Bearer " and a token. A secret that is NULL sets nothing, in each of these. */
void wasaba_http_header_secret(wasaba_request_t *request, const char *name, const char *prefix, const wasaba_secret_t *secret);
void wasaba_http_basic_auth(wasaba_request_t *request, const char *user, const wasaba_secret_t *password);
/* A secret that has lines of `Name: value`. */
void wasaba_http_header_lines(wasaba_request_t *request, const wasaba_secret_t *lines);
void wasaba_http_body(wasaba_request_t *request, const void *bytes, size_t size);
/* Follows redirects, so many at most: with GET, and to another server without what was meant for the first. */
void wasaba_http_follow(wasaba_request_t *request, unsigned limit);
/* Whether it will be sent with a header of this name. */
bool wasaba_http_has_header(wasaba_request_t *request, const char *name);
/* Sends it and waits for the whole response, whatever its status; or NULL. */
const wasaba_response_t *wasaba_http_send(wasaba_request_t *request);
/* A status that is not 2xx is an error that names the page. */
const wasaba_response_t *wasaba_http_ok(wasaba_request_t *request);
/* The header of this name, in any case, or NULL. */
const char *wasaba_response_header(const wasaba_response_t *response, const char *name);

/* ---- JSON ---- */

typedef enum { WASABA_JSON_NULL, WASABA_JSON_BOOLEAN, WASABA_JSON_NUMBER, WASABA_JSON_TEXT, WASABA_JSON_ARRAY, WASABA_JSON_OBJECT } wasaba_json_type_t;

typedef struct wasaba_json {
    wasaba_json_type_t type;
    /* In an object. */
    const char *key;
    /* Of a number: as it is written. */
    const char *text;
    double number;
    /* A number without sign, fraction and exponent, exact up to 2^64. */
    uint64_t whole;
    bool is_whole, is_true;
    /* The first of an array's or object's values; the value after this one. */
    const struct wasaba_json *first, *next;
    /* The array or object that it is in. */
    const struct wasaba_json *in;
    /* What messages call the whole. */
    const char *of;
} wasaba_json_t;

/* Sends a request and reads the body of a response whose status is 2xx; or NULL. */
const wasaba_json_t *wasaba_http_json(wasaba_request_t *request);
/* Reads a text, which messages call `of`; or NULL. */
const wasaba_json_t *wasaba_json_read(const char *text, size_t size, const char *of);
/* A path is a printf format: `jobs.waiting`, `workers[%d].name`, or "" for the value itself. */
/* A value that must be there and of this type. Otherwise the call fails, with file and line, and it is 0, false or empty. */
#define wasaba_json_number(json, ...) wasaba_json_number_at(__FILE__, __LINE__, json, __VA_ARGS__)
#define wasaba_json_whole(json, ...) wasaba_json_whole_at(__FILE__, __LINE__, json, __VA_ARGS__)
#define wasaba_json_boolean(json, ...) wasaba_json_boolean_at(__FILE__, __LINE__, json, __VA_ARGS__)
#define wasaba_json_text(json, ...) wasaba_json_text_at(__FILE__, __LINE__, json, __VA_ARGS__)
/* The first value of an array or object that must be there; NULL if it is empty. */
#define wasaba_json_first(json, ...) wasaba_json_first_at(__FILE__, __LINE__, json, __VA_ARGS__)
/* A value that may be absent or null: then false or NULL. One of another type fails the call.
 * `double load; if (wasaba_json_maybe_number(page, &load, "load")) ...` */
#define wasaba_json_maybe_number(json, number, ...) wasaba_json_maybe_number_at(__FILE__, __LINE__, json, number, __VA_ARGS__)
#define wasaba_json_maybe_whole(json, whole, ...) wasaba_json_maybe_whole_at(__FILE__, __LINE__, json, whole, __VA_ARGS__)
#define wasaba_json_maybe_boolean(json, is_true, ...) wasaba_json_maybe_boolean_at(__FILE__, __LINE__, json, is_true, __VA_ARGS__)
#define wasaba_json_maybe_text(json, ...) wasaba_json_maybe_text_at(__FILE__, __LINE__, json, __VA_ARGS__)
/* The value at a path, of any type; or NULL, which is not an error, if it is absent or null. Reading through NULL does not crash in a
 * component, it reads zeros: check it. */
const wasaba_json_t *wasaba_json_at(const wasaba_json_t *json, const char *path_format, ...) WASABA_PRINTF(2, 3);

double wasaba_json_number_at(const char *file, int line, const wasaba_json_t *json, const char *path_format, ...) WASABA_PRINTF(4, 5);
uint64_t wasaba_json_whole_at(const char *file, int line, const wasaba_json_t *json, const char *path_format, ...) WASABA_PRINTF(4, 5);
bool wasaba_json_boolean_at(const char *file, int line, const wasaba_json_t *json, const char *path_format, ...) WASABA_PRINTF(4, 5);
const char *wasaba_json_text_at(const char *file, int line, const wasaba_json_t *json, const char *path_format, ...) WASABA_PRINTF(4, 5);
const wasaba_json_t *wasaba_json_first_at(const char *file, int line, const wasaba_json_t *json, const char *path_format, ...) WASABA_PRINTF(4, 5);
bool wasaba_json_maybe_number_at(const char *file, int line, const wasaba_json_t *json, double *number, const char *path_format, ...) WASABA_PRINTF(5, 6);
bool wasaba_json_maybe_whole_at(const char *file, int line, const wasaba_json_t *json, uint64_t *whole, const char *path_format, ...) WASABA_PRINTF(5, 6);
bool wasaba_json_maybe_boolean_at(const char *file, int line, const wasaba_json_t *json, bool *is_true, const char *path_format, ...) WASABA_PRINTF(5, 6);
const char *wasaba_json_maybe_text_at(const char *file, int line, const wasaba_json_t *json, const char *path_format, ...) WASABA_PRINTF(4, 5);
/* Fails the call because the value at `path` is not there. Returns a null that can be read through. */
const wasaba_json_t *wasaba_json_missing_at(const char *file, int line, const wasaba_json_t *json, const char *path);
/* `WASABA_EACH(worker, page, "workers") { ... }` */
#define WASABA_EACH(each, json, ...) for (const wasaba_json_t *each = wasaba_json_first(json, __VA_ARGS__); each; each = each->next)

/* ---- tcp: streams to hosts and unix sockets, and TLS on top of either, which the agent speaks ---- */

typedef struct wasaba_connection wasaba_connection_t;

/* NULL if there is no connection. A timeout of 0 is none but the call's own. */
wasaba_connection_t *wasaba_tcp_connect(const char *host, uint16_t port, uint64_t timeout_ms);
wasaba_connection_t *wasaba_tcp_connect_unix(const char *path, uint64_t timeout_ms);
/* Waits for data, at most `max`; none at the end of the stream. */
bool wasaba_tcp_read(wasaba_connection_t *connection, size_t max, wasaba_bytes_t *read);
/* Waits until exactly so many bytes have arrived. */
bool wasaba_tcp_read_exactly(wasaba_connection_t *connection, size_t size, wasaba_bytes_t *read);
/* Waits for a line, without its end; NULL if there is none. */
const char *wasaba_tcp_line(wasaba_connection_t *connection);
bool wasaba_tcp_write(wasaba_connection_t *connection, const void *bytes, size_t size);
bool wasaba_tcp_printf(wasaba_connection_t *connection, const char *format, ...) WASABA_PRINTF(2, 3);
bool wasaba_tcp_write_secret(wasaba_connection_t *connection, const char *prefix, const wasaba_secret_t *secret, const char *suffix);
/* Closes the writing side; reading still works. */
bool wasaba_tcp_finish(wasaba_connection_t *connection);
void wasaba_tcp_close(wasaba_connection_t *connection);
/* Whether the peer is on this machine. */
bool wasaba_tcp_is_local(const wasaba_connection_t *connection);
void wasaba_tcp_set_timeout(wasaba_connection_t *connection, uint64_t timeout_ms);

typedef struct {
    /* The name on the certificate, if it is not the host that was connected to. */
    const char *server_name;
    /* The protocols to offer, the best first; NULL ends them. */
    const char *const *alpn;
} wasaba_tls_options_t;

typedef struct {
    /* `TLSv1.3`; the protocol that the peer chose, or NULL; what was verified: `encrypt`, `ca` or `full`. */
    const char *protocol, *alpn, *verified;
    /* The peer's certificates in DER, its own first; also if they are not trusted. */
    const wasaba_bytes_t *chain;
    size_t chain_length;
} wasaba_tls_info_t;

/* Upgrades to TLS. `options` and `info` may be NULL. */
bool wasaba_tcp_start_tls(wasaba_connection_t *connection, const wasaba_tls_options_t *options, wasaba_tls_info_t *info);

/* ---- kv: small values that an instance keeps from call to call; what a call sets is saved when it succeeds ---- */

bool wasaba_kv_get(const char *key, wasaba_bytes_t *value);
/* With a time of 0, forever. */
bool wasaba_kv_set(const char *key, const void *bytes, size_t size, uint64_t time_ms);
void wasaba_kv_delete(const char *key);
/* All keys that begin with `prefix`, sorted. NULL ends them. */
const char *const *wasaba_kv_keys(const char *prefix);
/* How much these counters have grown since the previous call, in `grown`. Returns false in the first call, and when one was reset. */
bool wasaba_kv_growth(const char *key, size_t count, const uint64_t *now, uint64_t *grown);

/* ---- log: lines in the agent's log, for what is not an error ---- */

void wasaba_log_debug(const char *format, ...) WASABA_PRINTF(1, 2);
void wasaba_log_info(const char *format, ...) WASABA_PRINTF(1, 2);
void wasaba_log_warning(const char *format, ...) WASABA_PRINTF(1, 2);
/* At most once a day for each topic. */
void wasaba_log_warning_daily(const char *topic, const char *format, ...) WASABA_PRINTF(2, 3);

/* ---- files ---- */

typedef struct wasaba_file wasaba_file_t;

typedef struct {
    uint64_t size, modified_ms;
    /* Which file it is: one that took its place has another. */
    uint64_t id;
} wasaba_stat_t;

wasaba_file_t *wasaba_file_open(const char *path);
bool wasaba_file_stat(wasaba_file_t *file, wasaba_stat_t *stat);
/* At most `max` bytes from `offset` on; none past the end. */
bool wasaba_file_read_at(wasaba_file_t *file, uint64_t offset, uint32_t max, wasaba_bytes_t *read);
void wasaba_file_close(wasaba_file_t *file);
/* The whole file, if it has at most `max` bytes, with a zero behind its end; or NULL. */
const char *wasaba_file_read(const char *path, size_t max, size_t *size);

/* ---- crypto: what log-ins compute from a secret; the agent does it ---- */

bool wasaba_crypto_scram_sha256(const wasaba_secret_t *password, wasaba_bytes_t salt, uint32_t iterations, const char *auth_message,
                                wasaba_bytes_t *client_proof, wasaba_bytes_t *server_signature);
/* NULL if the secret is. */
const char *wasaba_crypto_postgres_md5(const wasaba_secret_t *password, const char *user, wasaba_bytes_t salt);

/* ---- call: the call itself, and the agent that makes it ---- */

uint64_t wasaba_call_remaining_ms(void);
/* In seconds since 1970. */
uint64_t wasaba_call_minute(void);
/* A limit by its name in the operator's table. Returns false if the agent has no such limit. */
bool wasaba_call_limit(const char *name, uint64_t *limit);
const char *wasaba_call_agent_version(void);
bool wasaba_call_has(const char *feature);

#ifdef __cplusplus
}
#endif
#endif
