/* The SDK over the generated bindings, gen/full_plugin.h. The test host, wasaba_test.c, has the same functions as the bindings. */
#include "wasaba.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "gen/full_plugin.h"
#include "wasaba_internal.h"

typedef full_plugin_string_t string_t;
typedef full_plugin_list_u8_t list_t;
typedef full_plugin_list_tuple2_string_string_t pairs_t;

/* An array that grows. */
#define PUSH(array, count, room)                                                                                                         \
    ((count) == (room) ? ((room) = (room) ? 2 * (room) : 16, (array) = grown(array, (count) * sizeof *(array), (room) * sizeof *(array)))  \
                       : (array),                                                                                                        \
     &(array)[(count)++])

struct wasaba_secret {
    wasaba_plugin_types_borrow_secret_t handle;
};

typedef struct {
    const char *key, *text;
    wasaba_secret_t *secret;
} value_t;

typedef struct {
    const char *target;
    wasaba_error_t error;
} problem_t;

typedef struct {
    const char *name, *text;
    unsigned char status;
} result_t;

/* The call: an instance has only one. */
static struct {
    value_t *values;
    size_t value_count, value_room;
    wasaba_graph_t *graphs;
    size_t graph_count, graph_room;
    wasaba_sample_t **samples;
    size_t sample_count, sample_room;
    problem_t *problems;
    size_t problem_count, problem_room;
    /* Reports or documents. */
    result_t *results;
    size_t result_count, result_room;
    bool has_error, has_fault;
    wasaba_error_t error;
    /* The first mistake of the plugin's author, or of the operator where the plugin did not look. */
    wasaba_error_t fault;
} call;

/* ---- Memory: it is given back with the instance, or by wasaba_free_all in tests. ---- */

typedef union block {
    union block *next;
    max_align_t align;
} block_t;

static block_t *blocks;

/* What is left of the newest block of small pieces. */
static char *left;
static size_t left_size;

static void *block(size_t size) {
    block_t *block = size < SIZE_MAX - sizeof(block_t) ? calloc(1, sizeof(block_t) + size) : NULL;
    /* No message: to write one would take memory. The agent says which limit it was. */
    if (!block) __builtin_trap();
    block->next = blocks;
    blocks = block;
    return block + 1;
}

void *wasaba_alloc(size_t size) {
    enum { SMALL = 4096, BLOCK = 65536 - 64 };
    if (size > SMALL) return block(size);
    size = (size + sizeof(block_t) - 1) & ~(sizeof(block_t) - 1);
    if (size > left_size) {
        left = block(BLOCK);
        left_size = BLOCK;
    }
    void *piece = left;
    left += size;
    left_size -= size;
    return piece;
}

void wasaba_free_all(void) {
    while (blocks) {
        block_t *next = blocks->next;
        free(blocks);
        blocks = next;
    }
    left_size = 0;
    memset(&call, 0, sizeof call);
}

static void *grown(void *array, size_t used, size_t size) {
    void *bigger = wasaba_alloc(size);
    if (used) memcpy(bigger, array, used);
    return bigger;
}

static char *copied(const char *text, size_t length) {
    char *copy = wasaba_alloc(length + 1);
    if (length) memcpy(copy, text, length);
    return copy;
}

char *wasaba_vprintf(const char *format, va_list arguments) {
    va_list again;
    va_copy(again, arguments);
    int length = vsnprintf(NULL, 0, format, again);
    va_end(again);
    if (length < 0) return copied("", 0);
    char *text = wasaba_alloc((size_t)length + 1);
    vsnprintf(text, (size_t)length + 1, format, arguments);
    return text;
}

char *wasaba_printf(const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    char *text = wasaba_vprintf(format, arguments);
    va_end(arguments);
    return text;
}

/* The text of a printf format that is a function's last parameter. */
#define FORMATTED(text, format)                                                                                                          \
    char *text;                                                                                                                          \
    do {                                                                                                                                 \
        va_list arguments;                                                                                                               \
        va_start(arguments, format);                                                                                                     \
        text = wasaba_vprintf(format, arguments);                                                                                        \
        va_end(arguments);                                                                                                               \
    } while (0)

const char *wasaba_segment(const char *text) {
    if (!*text) return "_";
    char *segment = wasaba_alloc(strlen(text) + 1), *end = segment;
    for (; *text; text++) {
        unsigned char byte = (unsigned char)*text;
        bool valid = (byte >= 'a' && byte <= 'z') || (byte >= 'A' && byte <= 'Z') || (byte >= '0' && byte <= '9') || byte == '-' || byte == '_';
        /* A character of several bytes is one `_`. */
        if (valid)
            *end++ = (char)byte;
        else if ((byte & 0xc0) != 0x80)
            *end++ = '_';
    }
    return segment;
}

static string_t lent(const char *text) { return (string_t){(uint8_t *)(uintptr_t)text, text ? strlen(text) : 0}; }

static const char *text_of(string_t text) { return copied((const char *)text.ptr, text.len); }

static list_t bytes_of(const void *bytes, size_t size) { return (list_t){(uint8_t *)(uintptr_t)bytes, size}; }

/* ---- Errors ---- */

static const char *const kinds[] = {"failed", "misconfigured", "unauthorized", "unreachable", "timeout", "denied",
                                    "unsupported", "invalid", "too-large", "too-costly", "full"};

#define LENGTH(array) (sizeof(array) / sizeof *(array))

const wasaba_error_t *wasaba_error(void) { return call.has_error ? &call.error : NULL; }

void wasaba_clear_error(void) { call.has_error = false; }

static bool fail(wasaba_error_t error) {
    call.has_error = true;
    call.error = error;
    return false;
}

bool wasaba_fail(wasaba_kind_t kind, const char *format, ...) {
    FORMATTED(text, format);
    return fail((wasaba_error_t){.kind = kind, .message = text});
}

bool wasaba_busy(uint64_t retry_after_ms, const char *format, ...) {
    FORMATTED(text, format);
    return fail((wasaba_error_t){.kind = WASABA_UNREACHABLE, .message = text, .retry_after_ms = retry_after_ms ? retry_after_ms : 1});
}

/* Makes the call fail, whatever the plugin returns. */
static bool fault(wasaba_error_t error) {
    fail(error);
    if (!call.has_fault) {
        call.has_fault = true;
        call.fault = error;
    }
    return false;
}

bool wasaba_bug_at(const char *file, int line, const char *format, ...) {
    FORMATTED(text, format);
    const char *name = strrchr(file, '/');
    return fault((wasaba_error_t){.kind = WASABA_FAILED, .message = wasaba_printf("%s:%d: %s", name ? name + 1 : file, line, text)});
}

/* The one of several names that is most like a word, if any is. */
typedef struct {
    const char *word, *shown;
    size_t distance;
} nearest_t;

/* How many characters have to be added, removed or changed. */
static size_t distance(const char *one, const char *other) {
    enum { LONGEST = 200 };
    size_t length = strlen(other), row[LONGEST + 1];
    if (length > LONGEST) return SIZE_MAX;
    for (size_t column = 0; column <= length; column++) row[column] = column;
    for (; *one; one++) {
        size_t diagonal = row[0]++;
        for (size_t column = 1; column <= length; column++) {
            size_t changed = diagonal + (*one != other[column - 1]);
            diagonal = row[column];
            size_t shorter = row[column - 1] < diagonal ? row[column - 1] : diagonal;
            row[column] = changed <= shorter ? changed : shorter + 1;
        }
    }
    return row[length];
}

/* Compares the word with a name, which messages show as `shown`. */
static void compare(nearest_t *nearest, const char *name, const char *shown) {
    size_t changes = distance(nearest->word, name);
    if (changes > strlen(nearest->word) / 3 || (nearest->shown && changes >= nearest->distance)) return;
    nearest->shown = shown;
    nearest->distance = changes;
}

/* Keeps what a capability returned; `whom` it is about is added if it does not say so. */
static bool refused(const wasaba_plugin_types_error_t *error, const char *whom) {
    wasaba_error_t kept = {.kind = WASABA_FAILED, .message = text_of(error->message)};
    for (size_t kind = 0; kind < LENGTH(kinds); kind++)
        if (error->kind.len == strlen(kinds[kind]) && !memcmp(error->kind.ptr, kinds[kind], error->kind.len)) kept.kind = (wasaba_kind_t)kind;
    if (error->retry_after_ms.is_some) kept.retry_after_ms = error->retry_after_ms.val;
    for (size_t index = 0; index < error->attributes.len; index++) {
        const char *key = text_of(error->attributes.ptr[index].f0);
        if (!strcmp(key, "tls")) kept.tls = text_of(error->attributes.ptr[index].f1);
    }
    if (whom && kept.kind != WASABA_DENIED && !strstr(kept.message, whom)) kept.message = wasaba_printf("%s: %s", whom, kept.message);
    return fail(kept);
}

static pairs_t pairs(const wasaba_attribute_t *attributes, size_t count) {
    pairs_t pairs = {wasaba_alloc(count * sizeof *pairs.ptr), count};
    for (size_t index = 0; index < count; index++) {
        pairs.ptr[index].f0 = lent(attributes[index].key);
        pairs.ptr[index].f1 = lent(attributes[index].value);
    }
    return pairs;
}

static wasaba_plugin_types_error_t returned(wasaba_error_t error) {
    wasaba_attribute_t tls = {"tls", error.tls};
    return (wasaba_plugin_types_error_t){lent(kinds[error.kind]), lent(error.message ? error.message : ""),
                                         {error.retry_after_ms > 0, error.retry_after_ms}, pairs(&tls, error.tls ? 1 : 0)};
}

/* ---- The description ---- */

static const char *const setting_kinds[] = {NULL, "text", "secret", "integer", "number", "boolean", "duration", "url", "endpoint", "host",
                                            "port", "unix-socket", "file", "tls-skip-verify", "tls-mode"};
static const char *const readings[] = {"", "gauge", "delta", "per-minute", "per-second", "per-minute-32"};
static const char *const units[] = {"", "float", "integer", "percentage", "seconds", "milliseconds", "bytes", "bytes-per-second",
                                    "bits-per-second", "iops"};
static const char *const reach_words[] = {"http", "tcp", "unix", "file"};

#define WORD(words, number) ((size_t)(number) < LENGTH(words) && (words)[number] ? (words)[number] : "")

void exports_wasaba_plugin_about_describe(exports_wasaba_plugin_about_description_t *description) {
    const wasaba_plugin_t *plugin = &wasaba_plugin;
    size_t count = 0, attributes = 0;
    while (plugin->settings && plugin->settings[count]) count++;
    while (plugin->attributes && plugin->attributes[attributes].key) attributes++;
    *description = (exports_wasaba_plugin_about_description_t){
        .name = lent(plugin->name), .version = lent(plugin->version), .summary = lent(plugin->summary),
        .settings = {wasaba_alloc(count * sizeof *description->settings.ptr), count},
        .reach = {wasaba_alloc(LENGTH(reach_words) * sizeof *description->reach.ptr), 0},
        .attributes = pairs(plugin->attributes, attributes),
    };
    for (size_t index = 0; index < LENGTH(reach_words); index++)
        if (plugin->reaches & 1u << index) description->reach.ptr[description->reach.len++] = lent(reach_words[index]);
    for (size_t index = 0; index < count; index++) {
        const wasaba_setting_t *setting = plugin->settings[index];
        wasaba_attribute_t aliases = {"aliases", setting->aliases};
        description->settings.ptr[index] = (exports_wasaba_plugin_about_setting_t){
            lent(setting->key), lent(WORD(setting_kinds, setting->kind)), {setting->initial != NULL, lent(setting->initial)},
            setting->required, setting->repeatable, {setting->host != NULL, lent(setting->host ? setting->host->key : NULL)},
            lent(setting->help), pairs(&aliases, setting->aliases ? 1 : 0)};
    }
}

void wasaba_add_graph(const wasaba_graph_t *graph) { *PUSH(call.graphs, call.graph_count, call.graph_room) = *graph; }

static void find_graphs(void) {
    for (const wasaba_graph_t *graph = wasaba_plugin.graphs; graph && graph->name; graph++) wasaba_add_graph(graph);
    if (wasaba_plugin.graphs_by_settings) wasaba_plugin.graphs_by_settings();
}

static void begin(wasaba_plugin_types_settings_t *settings) {
    for (size_t index = 0; index < settings->len; index++) {
        wasaba_plugin_types_tuple2_string_setting_value_t *pair = &settings->ptr[index];
        value_t *value = PUSH(call.values, call.value_count, call.value_room);
        value->key = text_of(pair->f0);
        if (pair->f1.tag == WASABA_PLUGIN_TYPES_SETTING_VALUE_SECRET) {
            value->secret = wasaba_alloc(sizeof *value->secret);
            value->secret->handle = wasaba_plugin_types_borrow_secret(pair->f1.val.secret);
        } else {
            value->text = text_of(pair->f1.val.text);
        }
    }
}

void exports_wasaba_plugin_metrics_graphs(exports_wasaba_plugin_metrics_settings_t *settings, exports_wasaba_plugin_metrics_list_graph_t *list) {
    begin(settings);
    find_graphs();
    list->len = call.graph_count;
    list->ptr = wasaba_alloc(list->len * sizeof *list->ptr);
    for (size_t index = 0; index < list->len; index++) {
        const wasaba_graph_t *graph = &call.graphs[index];
        size_t lines = 0;
        while (graph->lines && graph->lines[lines].name) lines++;
        exports_wasaba_plugin_metrics_graph_t *to = &list->ptr[index];
        *to = (exports_wasaba_plugin_metrics_graph_t){.name = lent(graph->name), .label = lent(graph->label), .unit = lent(WORD(units, graph->unit)),
                                                      .metrics = {wasaba_alloc(lines * sizeof *to->metrics.ptr), lines}};
        for (size_t line = 0; line < lines; line++) {
            const wasaba_metric_t *metric = &graph->lines[line];
            to->metrics.ptr[line] = (exports_wasaba_plugin_metrics_metric_t){.name = lent(metric->name), .label = lent(metric->label),
                .stacked = metric->stacked, .reading = lent(WORD(readings, metric->reading)), .scale = {metric->scale != 0, metric->scale}};
        }
    }
}

/* Whether the call succeeded; else its error. */
static bool finished(bool succeeded, wasaba_plugin_types_error_t *error) {
    if (call.has_fault)
        *error = returned(call.fault);
    else if (!succeeded && !call.has_error)
        *error = returned((wasaba_error_t){.kind = WASABA_FAILED, .message = "the plugin failed without saying why"});
    else if (!succeeded)
        *error = returned(call.error);
    return succeeded && !call.has_fault;
}

static void problems(exports_wasaba_plugin_metrics_list_problem_t *list) {
    list->len = call.problem_count;
    list->ptr = wasaba_alloc(list->len * sizeof *list->ptr);
    for (size_t index = 0; index < list->len; index++) {
        list->ptr[index].target = lent(call.problems[index].target);
        list->ptr[index].error = returned(call.problems[index].error);
    }
}

bool exports_wasaba_plugin_metrics_collect(exports_wasaba_plugin_metrics_settings_t *settings, exports_wasaba_plugin_metrics_readings_t *result,
                                           exports_wasaba_plugin_metrics_error_t *error) {
    begin(settings);
    find_graphs();
    if (!finished(wasaba_collector(), error)) return false;
    *result = (exports_wasaba_plugin_metrics_readings_t){.samples = {wasaba_alloc(call.sample_count * sizeof *result->samples.ptr), call.sample_count}};
    for (size_t index = 0; index < call.sample_count; index++) {
        const wasaba_sample_t *sample = call.samples[index];
        exports_wasaba_plugin_metrics_sample_t *to = &result->samples.ptr[index];
        to->name = lent(sample->name);
        if (sample->value.is_unsigned) {
            to->value.tag = EXPORTS_WASABA_PLUGIN_METRICS_VALUE_UNSIGNED;
            to->value.val.unsigned_ = sample->value.whole;
        } else {
            to->value.tag = EXPORTS_WASABA_PLUGIN_METRICS_VALUE_FLOAT;
            to->value.val.float_ = sample->value.number;
        }
        to->unix_seconds = (full_plugin_option_u64_t){sample->unix_seconds != 0, sample->unix_seconds};
        to->host = (full_plugin_option_string_t){sample->host != NULL, lent(sample->host)};
        to->attributes = pairs(sample->labels, sample->label_count);
    }
    problems(&result->problems);
    return true;
}

bool exports_wasaba_plugin_checks_check(exports_wasaba_plugin_checks_settings_t *settings, exports_wasaba_plugin_checks_check_results_t *result,
                                        exports_wasaba_plugin_checks_error_t *error) {
    begin(settings);
    if (!finished(wasaba_checker(), error)) return false;
    *result = (exports_wasaba_plugin_checks_check_results_t){.reports = {wasaba_alloc(call.result_count * sizeof *result->reports.ptr), call.result_count}};
    for (size_t index = 0; index < call.result_count; index++)
        result->reports.ptr[index] = (exports_wasaba_plugin_checks_report_t){
            .name = lent(call.results[index].name), .status = call.results[index].status, .message = lent(call.results[index].text)};
    return true;
}

bool exports_wasaba_plugin_metadata_gather(exports_wasaba_plugin_metadata_settings_t *settings, exports_wasaba_plugin_metadata_metadata_results_t *result,
                                           exports_wasaba_plugin_metadata_error_t *error) {
    begin(settings);
    if (!finished(wasaba_gatherer(), error)) return false;
    *result = (exports_wasaba_plugin_metadata_metadata_results_t){
        .documents = {wasaba_alloc(call.result_count * sizeof *result->documents.ptr), call.result_count}};
    for (size_t index = 0; index < call.result_count; index++)
        result->documents.ptr[index] =
            (exports_wasaba_plugin_metadata_document_t){.namespace_ = lent(call.results[index].name), .json = lent(call.results[index].text)};
    exports_wasaba_plugin_metrics_list_problem_t list;
    problems(&list);
    result->problems.ptr = list.ptr;
    result->problems.len = list.len;
    return true;
}

/* ---- Settings ---- */

static bool declared(const char *file, int line, const wasaba_setting_t *setting) {
    const char *others = "";
    for (const wasaba_setting_t *const *each = wasaba_plugin.settings; each && *each; each++) {
        if (!strcmp((*each)->key, setting->key)) return true;
        others = wasaba_printf("%s%s%s", others, *others ? ", " : "", (*each)->key);
    }
    return wasaba_bug_at(file, line, "the plugin does not declare the setting `%s`, only: %s", setting->key, others);
}

/* Whether it is declared, and has a text. */
static bool is_text(const char *file, int line, const wasaba_setting_t *setting) {
    if (setting->kind != WASABA_SECRET) return declared(file, line, setting);
    return wasaba_bug_at(file, line, "`%s` is a secret: read it with wasaba_secret, in C++ with handle()", setting->key);
}

static const char *value_of(const wasaba_setting_t *setting) {
    for (size_t index = call.value_count; index-- > 0;)
        if (!strcmp(call.values[index].key, setting->key) && call.values[index].text) return call.values[index].text;
    return NULL;
}

const char *wasaba_get_at(const char *file, int line, const wasaba_setting_t *setting) {
    return is_text(file, line, setting) ? value_of(setting) : NULL;
}

const char *wasaba_text_at(const char *file, int line, const wasaba_setting_t *setting) {
    if (!is_text(file, line, setting)) return "";
    const char *text = value_of(setting);
    if (!text) fault((wasaba_error_t){.kind = WASABA_MISCONFIGURED, .message = wasaba_printf("`%s` is not set", setting->key)});
    return text ? text : "";
}

const char *const *wasaba_all_at(const char *file, int line, const wasaba_setting_t *setting) {
    const char **all = wasaba_alloc((call.value_count + 1) * sizeof *all);
    size_t count = 0;
    if (is_text(file, line, setting))
        for (size_t index = 0; index < call.value_count; index++)
            if (!strcmp(call.values[index].key, setting->key) && call.values[index].text) all[count++] = call.values[index].text;
    return all;
}

const wasaba_secret_t *wasaba_secret_at(const char *file, int line, const wasaba_setting_t *setting) {
    if (!declared(file, line, setting)) return NULL;
    if (setting->kind != WASABA_SECRET) {
        wasaba_bug_at(file, line, "`%s` is not a secret: read it with wasaba_text or wasaba_get, in C++ with text() or get()", setting->key);
        return NULL;
    }
    for (size_t index = call.value_count; index-- > 0;)
        if (!strcmp(call.values[index].key, setting->key) && call.values[index].secret)
            return wasaba_secret_length(call.values[index].secret) ? call.values[index].secret : NULL;
    return NULL;
}

static void invalid_value(const wasaba_setting_t *setting, const char *text) {
    fault((wasaba_error_t){.kind = WASABA_MISCONFIGURED, .message = wasaba_printf("invalid value \"%s\" in `%s`", text, setting->key)});
}

int64_t wasaba_integer_at(const char *file, int line, const wasaba_setting_t *setting) {
    const char *text = wasaba_text_at(file, line, setting);
    char *end;
    long long number = strtoll(text, &end, 10);
    if (*text && *end) invalid_value(setting, text);
    return number;
}

double wasaba_number_at(const char *file, int line, const wasaba_setting_t *setting) {
    const char *text = wasaba_text_at(file, line, setting);
    char *end;
    double number = strtod(text, &end);
    if (*text && *end) invalid_value(setting, text);
    return number;
}

bool wasaba_boolean_at(const char *file, int line, const wasaba_setting_t *setting) {
    return !strcmp(wasaba_text_at(file, line, setting), "true");
}

uint64_t wasaba_duration_ms_at(const char *file, int line, const wasaba_setting_t *setting) {
    const char *text = wasaba_text_at(file, line, setting);
    char *unit;
    uint64_t number = strtoull(text, &unit, 10);
    if (!strcmp(unit, "ms")) return number;
    if (!strcmp(unit, "s")) return number * 1000;
    if (!strcmp(unit, "m")) return number * 60000;
    if (!strcmp(unit, "h")) return number * 3600000;
    if (*text) invalid_value(setting, text);
    return 0;
}

bool wasaba_endpoint(const char *value, const char **host, uint16_t *port) {
    const char *colon = strrchr(value, ':');
    char *end = NULL;
    unsigned long number = colon ? strtoul(colon + 1, &end, 10) : 0;
    if (!colon || !colon[1] || *end || number > 65535) return wasaba_misconfigured("invalid value \"%s\": write a host and a port, db:5432", value);
    *host = copied(value, (size_t)(colon - value));
    *port = (uint16_t)number;
    return true;
}

size_t wasaba_secret_length(const wasaba_secret_t *secret) { return secret ? wasaba_plugin_types_method_secret_length(secret->handle) : 0; }

static bool missing_secret(const wasaba_secret_t *secret) { return secret ? false : !wasaba_misconfigured("the secret is not set"); }

const char *wasaba_secret_reveal(const wasaba_secret_t *secret) {
    string_t text;
    wasaba_plugin_types_error_t error;
    if (missing_secret(secret)) return NULL;
    if (!wasaba_plugin_types_method_secret_reveal(secret->handle, &text, &error)) return refused(&error, NULL), NULL;
    return text_of(text);
}

/* ---- Results ---- */

wasaba_value_t wasaba_float(double number) { return (wasaba_value_t){.number = number}; }
wasaba_value_t wasaba_unsigned(uint64_t number) { return (wasaba_value_t){.is_unsigned = true, .number = (double)number, .whole = number}; }
wasaba_value_t wasaba_signed(int64_t number) { return number < 0 ? wasaba_float((double)number) : wasaba_unsigned((uint64_t)number); }

/* Whether a name is that of the metric: `*` and `#` stand for any segment. */
static bool fits(const char *name, const char *graph, const char *metric) {
    for (;;) {
        size_t pattern = strcspn(graph, "."), segment = strcspn(name, ".");
        bool any = pattern == 1 && (*graph == '*' || *graph == '#');
        if (!segment || !name[segment] || !(any || (pattern == segment && !strncmp(graph, name, segment)))) return false;
        name += segment + 1;
        if (!graph[pattern]) return !strcmp(name, metric) || (!strcmp(metric, "*") && *name && !strchr(name, '.'));
        graph += pattern + 1;
    }
}

static bool has_graph(const char *name) {
    for (size_t index = 0; index < call.graph_count; index++)
        for (const wasaba_metric_t *metric = call.graphs[index].lines; metric && metric->name; metric++)
            if (fits(name, call.graphs[index].name, metric->name)) return true;
    return false;
}

/* A name that can be compared with a pattern: it has `*` and `#` where the pattern has them. */
static const char *generalized(const char *name, const char *pattern) {
    char *general = copied("", 0);
    for (;;) {
        size_t length = strcspn(name, "."), wanted = strcspn(pattern, ".");
        bool any = wanted == 1 && (*pattern == '*' || *pattern == '#');
        general = wasaba_printf("%s%.*s", general, (int)(any ? wanted : length), any ? pattern : name);
        name += length;
        pattern += wanted;
        if (!*name || !*pattern) return wasaba_printf("%s%s", general, name);
        general = wasaba_printf("%s.", general);
        name++;
        pattern++;
    }
}

/* What the author of a sample without graph may have meant. */
static const char *meant(const char *name) {
    const char *best = NULL, *all = "", *siblings = NULL;
    size_t least = 0, count = 0;
    for (size_t index = 0; index < call.graph_count; index++) {
        const wasaba_graph_t *graph = &call.graphs[index];
        const char *metrics = "", *dot = strrchr(name, '.');
        for (const wasaba_metric_t *metric = graph->lines; metric && metric->name; metric++) {
            const char *pattern = wasaba_printf("%s.%s", graph->name, metric->name);
            nearest_t nearest = {.word = generalized(name, pattern)};
            compare(&nearest, pattern, pattern);
            if (nearest.shown && (!best || nearest.distance < least)) {
                best = pattern;
                least = nearest.distance;
            }
            metrics = wasaba_printf("%s%s%s", metrics, *metrics ? ", " : "", metric->name);
            if (++count <= 10) all = wasaba_printf("%s%s%s", all, *all ? ", " : "", pattern);
        }
        if (dot && fits(wasaba_printf("%.*s.m", (int)(dot - name), name), graph->name, "m"))
            siblings = wasaba_printf("; the graph `%s` has %s", graph->name, metrics);
    }
    if (best) return wasaba_printf(", did you mean `%s`?", best);
    return siblings ? siblings : wasaba_printf(", they have %s%s", *all ? all : "none", count > 10 ? " and more" : "");
}

wasaba_sample_t *wasaba_add_sample(const char *file, int line, wasaba_value_t value, const char *format, ...) {
    FORMATTED(name, format);
    wasaba_sample_t *sample = wasaba_alloc(sizeof *sample);
    sample->name = name;
    sample->value = value;
    if (!has_graph(name)) wasaba_bug_at(file, line, "no graph of the plugin has the sample `%s`%s", name, meant(name));
    if (!value.is_unsigned && (isnan(value.number) || isinf(value.number)))
        wasaba_bug_at(file, line, "the value of the sample `%s` is %s", name, isnan(value.number) ? "NaN" : "infinite");
    *PUSH(call.samples, call.sample_count, call.sample_room) = sample;
    return sample;
}

wasaba_sample_t *wasaba_label(wasaba_sample_t *sample, const char *name, const char *value) {
    sample->labels = grown(sample->labels, sample->label_count * sizeof *sample->labels, (sample->label_count + 1) * sizeof *sample->labels);
    sample->labels[sample->label_count++] = (wasaba_attribute_t){copied(name, strlen(name)), copied(value, strlen(value))};
    return sample;
}

void wasaba_problem(const char *format, ...) {
    FORMATTED(target, format);
    wasaba_error_t error = call.has_error ? call.error : (wasaba_error_t){.message = "it failed without saying why"};
    *PUSH(call.problems, call.problem_count, call.problem_room) = (problem_t){target, error};
    wasaba_clear_error();
}

static void result(const char *name, unsigned char status, const char *text) {
    *PUSH(call.results, call.result_count, call.result_room) = (result_t){copied(name, strlen(name)), text, status};
}

void wasaba_ok(const char *name, const char *format, ...) {
    FORMATTED(text, format);
    result(name, EXPORTS_WASABA_PLUGIN_CHECKS_STATUS_OK, text);
}

void wasaba_warning(const char *name, const char *format, ...) {
    FORMATTED(text, format);
    result(name, EXPORTS_WASABA_PLUGIN_CHECKS_STATUS_WARNING, text);
}

void wasaba_critical(const char *name, const char *format, ...) {
    FORMATTED(text, format);
    result(name, EXPORTS_WASABA_PLUGIN_CHECKS_STATUS_CRITICAL, text);
}

void wasaba_unknown(const char *name, const char *format, ...) {
    FORMATTED(text, format);
    result(name, EXPORTS_WASABA_PLUGIN_CHECKS_STATUS_UNKNOWN, text);
}

void wasaba_document(const char *name_space, const char *format, ...) {
    FORMATTED(text, format);
    result(name_space, 0, text);
}

bool wasaba_up_at(const char *file, int line, bool collected, const char *format, ...) {
    FORMATTED(name, format);
    static const char key[] = "down";
    wasaba_bytes_t before;
    wasaba_error_t error = call.has_error ? call.error : (wasaba_error_t){.message = "it failed without saying why"};
    if (call.has_fault) return false;
    if (!collected && (error.retry_after_ms || (error.kind != WASABA_UNREACHABLE && error.kind != WASABA_TIMEOUT &&
                                                error.kind != WASABA_FAILED && error.kind != WASABA_UNSUPPORTED)))
        return false;
    bool was_down = wasaba_kv_get(key, &before);
    if (collected && was_down) {
        wasaba_log_info("the target is up again");
        wasaba_kv_delete(key);
    }
    if (!collected) {
        call.sample_count = 0;
        if (!was_down) {
            wasaba_log_warning("the target is down: %s", error.message);
            if (!wasaba_kv_set(key, "", 0, 0)) return false;
        }
    }
    wasaba_add_sample(file, line, wasaba_unsigned(collected), "%s", name);
    return true;
}

/* Whether the plugin says that it uses this capability: the agent refuses it otherwise, without knowing the words of C. */
static bool reaches(unsigned what, const char *word, const char *whom) {
    if (wasaba_plugin.reaches & what) return true;
    return fault((wasaba_error_t){
        .kind = WASABA_FAILED,
        .message = wasaba_printf("to reach %s the plugin needs `.reaches = WASABA_REACH_%s` in WASABA_PLUGIN, in C++ `.reaches(WASABA_REACH_%s)`",
                                 whom, word, word)});
}

/* ---- http ---- */

typedef struct {
    enum { TEXT, SECRET, BASIC, LINES } kind;
    const char *name, *value;
    const wasaba_secret_t *secret;
} sent_t;

struct wasaba_request {
    const char *method, *url;
    sent_t *headers;
    size_t header_count, header_room;
    const void *body;
    size_t size;
    bool has_body;
    unsigned redirects;
};

wasaba_request_t *wasaba_http_request(const char *method, const char *url) {
    wasaba_request_t *request = wasaba_alloc(sizeof *request);
    request->method = copied(method, strlen(method));
    request->url = copied(url, strlen(url));
    return request;
}

wasaba_request_t *wasaba_http_get(const char *url) { return wasaba_http_request("GET", url); }

static void header(wasaba_request_t *request, int kind, const char *name, const char *value, const wasaba_secret_t *secret) {
    if (kind != TEXT && !secret) return;
    *PUSH(request->headers, request->header_count, request->header_room) =
        (sent_t){kind, copied(name, strlen(name)), copied(value, strlen(value)), secret};
}

void wasaba_http_header(wasaba_request_t *request, const char *name, const char *value) { header(request, TEXT, name, value, NULL); }

void wasaba_http_header_secret(wasaba_request_t *request, const char *name, const char *prefix, const wasaba_secret_t *secret) {
    header(request, SECRET, name, prefix, secret);
}

void wasaba_http_basic_auth(wasaba_request_t *request, const char *user, const wasaba_secret_t *password) {
    header(request, BASIC, user, "", password);
}

void wasaba_http_header_lines(wasaba_request_t *request, const wasaba_secret_t *lines) { header(request, LINES, "", "", lines); }

void wasaba_http_body(wasaba_request_t *request, const void *bytes, size_t size) {
    request->body = copied(bytes, size);
    request->size = size;
    request->has_body = true;
}

void wasaba_http_follow(wasaba_request_t *request, unsigned limit) { request->redirects = limit; }

static bool built(const wasaba_request_t *request, wasaba_plugin_http_own_request_t *own) {
    string_t method = lent(request->method), url = lent(request->url);
    *own = wasaba_plugin_http_constructor_request(&method, &url);
    wasaba_plugin_http_borrow_request_t borrowed = wasaba_plugin_http_borrow_request(*own);
    wasaba_plugin_types_error_t error;
    for (size_t index = 0; index < request->header_count; index++) {
        const sent_t *header = &request->headers[index];
        string_t name = lent(header->name), value = lent(header->value);
        bool set = false;
        switch (header->kind) {
        case TEXT: set = wasaba_plugin_http_method_request_set_header(borrowed, &name, &value, &error); break;
        case SECRET: set = wasaba_plugin_http_method_request_set_header_secret(borrowed, &name, &value, header->secret->handle, &error); break;
        case BASIC: set = wasaba_plugin_http_method_request_set_basic_auth(borrowed, &name, header->secret->handle, &error); break;
        case LINES: set = wasaba_plugin_http_method_request_set_header_lines(borrowed, header->secret->handle, &error); break;
        }
        if (!set) {
            wasaba_plugin_http_request_drop_own(*own);
            return refused(&error, NULL);
        }
    }
    if (request->has_body) {
        list_t body = bytes_of(request->body, request->size);
        wasaba_plugin_http_method_request_set_body(borrowed, &body);
    }
    return true;
}

bool wasaba_http_has_header(wasaba_request_t *request, const char *name) {
    wasaba_plugin_http_own_request_t own;
    if (!built(request, &own)) return false;
    string_t wanted = lent(name);
    bool has = wasaba_plugin_http_method_request_has_header(wasaba_plugin_http_borrow_request(own), &wanted);
    wasaba_plugin_http_request_drop_own(own);
    return has;
}

/* A URL without its query, which may be private. */
static const char *page(const char *url) { return copied(url, strcspn(url, "?#")); }

/* The length of scheme, host and port of an absolute URL, as written. */
static size_t origin(const char *url) {
    const char *host = strstr(url, "://");
    return host ? (size_t)(host - url) + 3 + strcspn(host + 3, "/\\?#") : strlen(url);
}

/* Where a response to a request for `url` redirects to, as an absolute URL. */
static const char *redirected(const char *url, const char *location) {
    size_t begin = origin(url);
    if (strstr(location, "://")) return location;
    if (!strncmp(location, "//", 2)) return wasaba_printf("%.*s%s", (int)(strstr(url, "://") - url + 1), url, location);
    if (*location == '/') return wasaba_printf("%.*s%s", (int)begin, url, location);
    const char *path = page(url), *folder = strrchr(path + begin, '/');
    return wasaba_printf("%.*s/%s", (int)(folder ? (size_t)(folder - path) : begin), path, location);
}

static const wasaba_response_t *sent(const wasaba_request_t *request) {
    wasaba_plugin_http_own_request_t own;
    wasaba_plugin_http_own_response_t answer;
    wasaba_plugin_types_error_t error;
    if (!built(request, &own)) return NULL;
    const char *host = strstr(request->url, "://");
    bool succeeded = wasaba_plugin_http_send(wasaba_plugin_http_borrow_request(own), &answer, &error);
    wasaba_plugin_http_request_drop_own(own);
    if (!succeeded) {
        const char *whom = page(request->url);
        refused(&error, NULL);
        if (call.error.kind != WASABA_DENIED && !(host && strstr(call.error.message, copied(host + 3, strcspn(host + 3, "/\\?#")))))
            call.error.message = wasaba_printf("%s: %s", whom, call.error.message);
        return NULL;
    }
    wasaba_plugin_http_borrow_response_t borrowed = wasaba_plugin_http_borrow_response(answer);
    full_plugin_list_tuple2_string_list_u8_t headers;
    list_t body;
    wasaba_response_t *response = wasaba_alloc(sizeof *response);
    response->url = request->url;
    response->status = wasaba_plugin_http_method_response_status(borrowed);
    wasaba_plugin_http_method_response_headers(borrowed, &headers);
    succeeded = wasaba_plugin_http_method_response_body(borrowed, &body, &error);
    wasaba_plugin_http_response_drop_own(answer);
    if (!succeeded) return refused(&error, page(request->url)), NULL;
    wasaba_header_t *all = wasaba_alloc(headers.len * sizeof *all);
    for (size_t index = 0; index < headers.len; index++) {
        list_t value = headers.ptr[index].f1;
        all[index] = (wasaba_header_t){text_of(headers.ptr[index].f0), {(const uint8_t *)copied((const char *)value.ptr, value.len), value.len}};
    }
    response->headers = all;
    response->header_count = headers.len;
    response->body = wasaba_taken(body.ptr, body.len);
    response->size = body.len;
    return response;
}

/* Room for a zero behind bytes that the bindings allocated. */
const char *wasaba_taken(uint8_t *bytes, size_t size) {
    char *taken = size ? realloc(bytes, size + 1) : calloc(1, 1);
    if (!taken) __builtin_trap();
    taken[size] = 0;
#ifndef __wasm__
    char *copy = copied(taken, size);
    free(taken);
    return copy;
#else
    return taken;
#endif
}

const wasaba_response_t *wasaba_http_send(wasaba_request_t *request) {
    wasaba_request_t now = *request;
    if (!reaches(WASABA_REACH_HTTP, "HTTP", page(request->url))) return NULL;
    for (unsigned followed = 0;; followed++) {
        const wasaba_response_t *response = sent(&now);
        if (!response || !request->redirects) return response;
        const char *location = wasaba_response_header(response, "location");
        unsigned status = response->status;
        if (!location || !strstr(now.url, "://") || (status != 301 && status != 302 && status != 303 && status != 307 && status != 308))
            return response;
        if (followed == request->redirects) {
            wasaba_failed("%s: more than %u redirects", page(request->url), request->redirects);
            return NULL;
        }
        const char *target = redirected(now.url, location);
        if (origin(target) != origin(now.url) || strncmp(target, now.url, origin(target))) {
            /* Without what was meant for the first server. */
            sent_t *all = now.headers;
            size_t count = now.header_count;
            now.headers = NULL;
            now.header_count = now.header_room = 0;
            for (size_t index = 0; index < count; index++)
                if (all[index].kind == TEXT && strcasecmp(all[index].name, "authorization") && strcasecmp(all[index].name, "cookie") &&
                    strcasecmp(all[index].name, "host"))
                    *PUSH(now.headers, now.header_count, now.header_room) = all[index];
        }
        now.method = "GET";
        now.url = target;
        now.has_body = false;
    }
}

const wasaba_response_t *wasaba_http_ok(wasaba_request_t *request) {
    const wasaba_response_t *response = wasaba_http_send(request);
    if (!response || response->status / 100 == 2) return response;
    const char *wait = wasaba_response_header(response, "retry-after"), *url = page(response->url);
    unsigned status = response->status;
    if ((status == 429 || status == 503) && wait && *wait && !wait[strspn(wait, "0123456789")])
        wasaba_busy(strtoull(wait, NULL, 10) * 1000, "%s answers with status %u", url, status);
    else
        wasaba_fail(status == 401 || status == 403 ? WASABA_UNAUTHORIZED : WASABA_FAILED, "%s answers with status %u", url, status);
    return NULL;
}

const char *wasaba_response_header(const wasaba_response_t *response, const char *name) {
    for (size_t index = 0; index < response->header_count; index++)
        if (!strcasecmp(response->headers[index].name, name)) return (const char *)response->headers[index].value.bytes;
    return NULL;
}

const wasaba_json_t *wasaba_http_json(wasaba_request_t *request) {
    const wasaba_response_t *response = wasaba_http_ok(request);
    return response ? wasaba_json_read(response->body, response->size, page(response->url)) : NULL;
}

/* ---- tcp ---- */

struct wasaba_connection {
    wasaba_plugin_tcp_own_connection_t own;
    wasaba_plugin_tcp_borrow_connection_t borrowed;
    const char *address;
    /* What was read, but not yet asked for. */
    const uint8_t *rest;
    size_t rest_size;
    bool is_closed;
};

static wasaba_connection_t *opened(wasaba_plugin_tcp_own_connection_t own, const char *address) {
    wasaba_connection_t *connection = wasaba_alloc(sizeof *connection);
    connection->own = own;
    connection->borrowed = wasaba_plugin_tcp_borrow_connection(own);
    connection->address = address;
    return connection;
}

wasaba_connection_t *wasaba_tcp_connect(const char *host, uint16_t port, uint64_t timeout_ms) {
    string_t to = lent(host);
    wasaba_plugin_tcp_own_connection_t own;
    wasaba_plugin_types_error_t error;
    const char *address = wasaba_printf("%s:%u", host, port);
    if (!reaches(WASABA_REACH_TCP, "TCP", address)) return NULL;
    if (!wasaba_plugin_tcp_static_connection_connect(&to, port, timeout_ms ? &timeout_ms : NULL, &own, &error))
        return refused(&error, address), NULL;
    return opened(own, address);
}

wasaba_connection_t *wasaba_tcp_connect_unix(const char *path, uint64_t timeout_ms) {
    string_t to = lent(path);
    wasaba_plugin_tcp_own_connection_t own;
    wasaba_plugin_types_error_t error;
    if (!reaches(WASABA_REACH_UNIX, "UNIX", path)) return NULL;
    if (!wasaba_plugin_tcp_static_connection_connect_unix(&to, timeout_ms ? &timeout_ms : NULL, &own, &error))
        return refused(&error, path), NULL;
    return opened(own, copied(path, strlen(path)));
}

bool wasaba_tcp_read(wasaba_connection_t *connection, size_t max, wasaba_bytes_t *read) {
    if (!connection->rest_size) {
        list_t list;
        wasaba_plugin_types_error_t error;
        uint32_t wanted = max > 65536 ? 65536 : (uint32_t)max;
        if (!wasaba_plugin_tcp_method_connection_read(connection->borrowed, wanted, &list, &error)) return refused(&error, connection->address);
        connection->rest = (const uint8_t *)wasaba_taken(list.ptr, list.len);
        connection->rest_size = list.len;
    }
    read->size = connection->rest_size < max ? connection->rest_size : max;
    read->bytes = connection->rest;
    connection->rest += read->size;
    connection->rest_size -= read->size;
    return true;
}

bool wasaba_tcp_read_exactly(wasaba_connection_t *connection, size_t size, wasaba_bytes_t *read) {
    uint8_t *all = wasaba_alloc(size + 1);
    *read = (wasaba_bytes_t){all, 0};
    while (read->size < size) {
        wasaba_bytes_t part;
        if (!wasaba_tcp_read(connection, size - read->size, &part)) return false;
        if (!part.size) return wasaba_unreachable("%s: the stream ended after %zu of %zu bytes", connection->address, read->size, size);
        memcpy(all + read->size, part.bytes, part.size);
        read->size += part.size;
    }
    return true;
}

const char *wasaba_tcp_line(wasaba_connection_t *connection) {
    char *line = NULL;
    size_t length = 0, room = 0;
    for (;;) {
        wasaba_bytes_t part;
        if (!wasaba_tcp_read(connection, 65536, &part)) return NULL;
        if (!part.size) return wasaba_unreachable("%s: the stream ended within a line", connection->address), NULL;
        const uint8_t *end = memchr(part.bytes, '\n', part.size);
        size_t taken = end ? (size_t)(end - part.bytes) : part.size;
        for (size_t index = 0; index < taken; index++) *PUSH(line, length, room) = (char)part.bytes[index];
        if (end) {
            connection->rest = end + 1;
            connection->rest_size += part.size - taken - 1;
            if (length && line[length - 1] == '\r') length--;
            return copied(line, length);
        }
    }
}

bool wasaba_tcp_write(wasaba_connection_t *connection, const void *bytes, size_t size) {
    list_t list = bytes_of(bytes, size);
    wasaba_plugin_types_error_t error;
    return wasaba_plugin_tcp_method_connection_write(connection->borrowed, &list, &error) || refused(&error, connection->address);
}

bool wasaba_tcp_printf(wasaba_connection_t *connection, const char *format, ...) {
    FORMATTED(text, format);
    return wasaba_tcp_write(connection, text, strlen(text));
}

bool wasaba_tcp_write_secret(wasaba_connection_t *connection, const char *prefix, const wasaba_secret_t *secret, const char *suffix) {
    list_t before = bytes_of(prefix, strlen(prefix)), after = bytes_of(suffix, strlen(suffix));
    wasaba_plugin_types_error_t error;
    if (missing_secret(secret)) return false;
    return wasaba_plugin_tcp_method_connection_write_secret(connection->borrowed, &before, secret->handle, &after, &error) ||
           refused(&error, connection->address);
}

bool wasaba_tcp_finish(wasaba_connection_t *connection) {
    wasaba_plugin_types_error_t error;
    return wasaba_plugin_tcp_method_connection_finish(connection->borrowed, &error) || refused(&error, connection->address);
}

void wasaba_tcp_close(wasaba_connection_t *connection) {
    if (connection && !connection->is_closed) wasaba_plugin_tcp_connection_drop_own(connection->own);
    if (connection) connection->is_closed = true;
}

bool wasaba_tcp_is_local(const wasaba_connection_t *connection) { return wasaba_plugin_tcp_method_connection_is_local(connection->borrowed); }

void wasaba_tcp_set_timeout(wasaba_connection_t *connection, uint64_t timeout_ms) {
    wasaba_plugin_tcp_method_connection_set_timeout(connection->borrowed, timeout_ms ? &timeout_ms : NULL);
}

static void chain(const full_plugin_list_list_u8_t *list, wasaba_tls_info_t *info) {
    wasaba_bytes_t *certificates = wasaba_alloc(list->len * sizeof *certificates);
    for (size_t index = 0; index < list->len; index++) certificates[index] = (wasaba_bytes_t){list->ptr[index].ptr, list->ptr[index].len};
    info->chain = certificates;
    info->chain_length = list->len;
}

bool wasaba_tcp_start_tls(wasaba_connection_t *connection, const wasaba_tls_options_t *options, wasaba_tls_info_t *info) {
    wasaba_plugin_tcp_own_tls_options_t own = wasaba_plugin_tcp_constructor_tls_options();
    wasaba_plugin_tcp_borrow_tls_options_t wanted = wasaba_plugin_tcp_borrow_tls_options(own);
    wasaba_plugin_tcp_tls_info_t agreed;
    wasaba_plugin_tcp_tls_failure_t failure;
    wasaba_tls_info_t unwanted;
    if (!info) info = &unwanted;
    *info = (wasaba_tls_info_t){0};
    if (options && options->server_name) {
        string_t name = lent(options->server_name);
        wasaba_plugin_tcp_method_tls_options_set_server_name(wanted, &name);
    }
    if (options && options->alpn) {
        full_plugin_list_string_t list = {NULL, 0};
        while (options->alpn[list.len]) list.len++;
        list.ptr = wasaba_alloc(list.len * sizeof *list.ptr);
        for (size_t index = 0; index < list.len; index++) list.ptr[index] = lent(options->alpn[index]);
        wasaba_plugin_tcp_method_tls_options_set_alpn(wanted, &list);
    }
    bool succeeded = wasaba_plugin_tcp_method_connection_start_tls(connection->borrowed, wanted, &agreed, &failure);
    wasaba_plugin_tcp_tls_options_drop_own(own);
    if (!succeeded) {
        chain(&failure.chain, info);
        return refused(&failure.error, connection->address);
    }
    chain(&agreed.chain, info);
    info->protocol = text_of(agreed.protocol);
    info->alpn = agreed.alpn.is_some ? text_of(agreed.alpn.val) : NULL;
    info->verified = text_of(agreed.verified);
    return true;
}

/* ---- kv ---- */

bool wasaba_kv_get(const char *key, wasaba_bytes_t *value) {
    string_t name = lent(key);
    list_t list;
    if (!wasaba_plugin_kv_get(&name, &list)) return false;
    *value = (wasaba_bytes_t){(const uint8_t *)wasaba_taken(list.ptr, list.len), list.len};
    return true;
}

bool wasaba_kv_set(const char *key, const void *bytes, size_t size, uint64_t time_ms) {
    string_t name = lent(key);
    list_t value = bytes_of(bytes, size);
    wasaba_plugin_types_error_t error;
    return wasaba_plugin_kv_set(&name, &value, time_ms ? &time_ms : NULL, &error) || refused(&error, NULL);
}

void wasaba_kv_delete(const char *key) {
    string_t name = lent(key);
    wasaba_plugin_kv_delete(&name);
}

const char *const *wasaba_kv_keys(const char *prefix) {
    string_t begin = lent(prefix);
    full_plugin_list_string_t list;
    wasaba_plugin_kv_keys(&begin, &list);
    const char **keys = wasaba_alloc((list.len + 1) * sizeof *keys);
    for (size_t index = 0; index < list.len; index++) keys[index] = text_of(list.ptr[index]);
    return keys;
}

bool wasaba_kv_growth(const char *key, size_t count, const uint64_t *now, uint64_t *growth) {
    wasaba_bytes_t before = {NULL, 0};
    bool known = wasaba_kv_get(key, &before);
    if (!wasaba_kv_set(key, now, count * sizeof *now, 0)) return fault(call.error);
    if (!known || before.size != count * sizeof *now) return false;
    for (size_t index = 0; index < count; index++) {
        uint64_t last;
        memcpy(&last, before.bytes + index * sizeof last, sizeof last);
        if (now[index] < last) return false;
        growth[index] = now[index] - last;
    }
    return true;
}

/* ---- log ---- */

static void write_line(wasaba_plugin_log_level_t level, const char *text) {
    string_t line = lent(text);
    wasaba_plugin_log_write(level, &line);
}

void wasaba_log_debug(const char *format, ...) {
    FORMATTED(text, format);
    write_line(WASABA_PLUGIN_LOG_LEVEL_DEBUG, text);
}

void wasaba_log_info(const char *format, ...) {
    FORMATTED(text, format);
    write_line(WASABA_PLUGIN_LOG_LEVEL_INFO, text);
}

void wasaba_log_warning(const char *format, ...) {
    FORMATTED(text, format);
    write_line(WASABA_PLUGIN_LOG_LEVEL_WARNING, text);
}

void wasaba_log_warning_daily(const char *topic, const char *format, ...) {
    FORMATTED(text, format);
    const char *key = wasaba_printf("warned: %s", topic);
    uint64_t now = (uint64_t)time(NULL), last;
    wasaba_bytes_t before;
    if (wasaba_kv_get(key, &before) && before.size == sizeof last) {
        memcpy(&last, before.bytes, sizeof last);
        /* If the clock was set back, it counts as another day. */
        if (last <= now && now - last < 24 * 60 * 60) return;
    }
    write_line(WASABA_PLUGIN_LOG_LEVEL_WARNING, text);
    /* If the store is full, the next call warns again: too often is better than not at all. */
    wasaba_kv_set(key, &now, sizeof now, 0);
}

/* ---- files ---- */

struct wasaba_file {
    wasaba_plugin_files_own_file_t own;
    wasaba_plugin_files_borrow_file_t borrowed;
    const char *path;
    bool is_closed;
};

wasaba_file_t *wasaba_file_open(const char *path) {
    if (!reaches(WASABA_REACH_FILE, "FILE", path)) return NULL;
    string_t name = lent(path);
    wasaba_plugin_files_own_file_t own;
    wasaba_plugin_types_error_t error;
    if (!wasaba_plugin_files_static_file_open(&name, &own, &error)) return refused(&error, NULL), NULL;
    wasaba_file_t *file = wasaba_alloc(sizeof *file);
    *file = (wasaba_file_t){own, wasaba_plugin_files_borrow_file(own), copied(path, strlen(path)), false};
    return file;
}

bool wasaba_file_stat(wasaba_file_t *file, wasaba_stat_t *stat) {
    wasaba_plugin_files_file_stat_t known;
    wasaba_plugin_types_error_t error;
    if (!wasaba_plugin_files_method_file_stat(file->borrowed, &known, &error)) return refused(&error, file->path);
    *stat = (wasaba_stat_t){known.size, known.modified_ms, known.id};
    return true;
}

bool wasaba_file_read_at(wasaba_file_t *file, uint64_t offset, uint32_t max, wasaba_bytes_t *read) {
    list_t list;
    wasaba_plugin_types_error_t error;
    if (!wasaba_plugin_files_method_file_read_at(file->borrowed, offset, max, &list, &error)) return refused(&error, file->path);
    *read = (wasaba_bytes_t){(const uint8_t *)wasaba_taken(list.ptr, list.len), list.len};
    return true;
}

void wasaba_file_close(wasaba_file_t *file) {
    if (file && !file->is_closed) wasaba_plugin_files_file_drop_own(file->own);
    if (file) file->is_closed = true;
}

const char *wasaba_file_read(const char *path, size_t max, size_t *size) {
    wasaba_file_t *file = wasaba_file_open(path);
    char *whole = NULL;
    size_t length = 0;
    while (file) {
        wasaba_bytes_t part;
        if (!wasaba_file_read_at(file, length, 1 << 20, &part)) break;
        if (length + part.size > max) {
            wasaba_fail(WASABA_TOO_LARGE, "`%s` is larger than %zu bytes", path, max);
            break;
        }
        if (!part.size) {
            wasaba_file_close(file);
            if (size) *size = length;
            return whole ? whole : copied("", 0);
        }
        whole = grown(whole, length, length + part.size + 1);
        memcpy(whole + length, part.bytes, part.size);
        length += part.size;
    }
    wasaba_file_close(file);
    return NULL;
}

/* ---- crypto ---- */

bool wasaba_crypto_scram_sha256(const wasaba_secret_t *password, wasaba_bytes_t salt, uint32_t iterations, const char *auth_message,
                                wasaba_bytes_t *client_proof, wasaba_bytes_t *server_signature) {
    list_t salted = bytes_of(salt.bytes, salt.size);
    string_t message = lent(auth_message);
    wasaba_plugin_crypto_scram_proof_t proof;
    wasaba_plugin_types_error_t error;
    if (missing_secret(password)) return false;
    if (!wasaba_plugin_crypto_scram_sha256(password->handle, &salted, iterations, &message, &proof, &error)) return refused(&error, NULL);
    *client_proof = (wasaba_bytes_t){proof.client_proof.ptr, proof.client_proof.len};
    *server_signature = (wasaba_bytes_t){proof.server_signature.ptr, proof.server_signature.len};
    return true;
}

const char *wasaba_crypto_postgres_md5(const wasaba_secret_t *password, const char *user, wasaba_bytes_t salt) {
    list_t salted = bytes_of(salt.bytes, salt.size);
    string_t name = lent(user), text;
    if (missing_secret(password)) return NULL;
    wasaba_plugin_crypto_postgres_md5(password->handle, &name, &salted, &text);
    return text_of(text);
}

/* ---- call ---- */

uint64_t wasaba_call_remaining_ms(void) { return wasaba_plugin_call_remaining_ms(); }
uint64_t wasaba_call_minute(void) { return wasaba_plugin_call_minute(); }

bool wasaba_call_limit(const char *name, uint64_t *limit) {
    string_t key = lent(name);
    return wasaba_plugin_call_limit(&key, limit);
}

const char *wasaba_call_agent_version(void) {
    string_t version;
    wasaba_plugin_call_agent_version(&version);
    return text_of(version);
}

bool wasaba_call_has(const char *feature) {
    string_t name = lent(feature);
    return wasaba_plugin_call_has(&name);
}

/* ---- JSON ---- */

typedef struct {
    const char *at, *end, *of, *wrong;
    unsigned depth;
} reader_t;

static void space(reader_t *reader) {
    while (reader->at < reader->end && (*reader->at == ' ' || *reader->at == '\n' || *reader->at == '\r' || *reader->at == '\t')) reader->at++;
}

static bool wrong(reader_t *reader, const char *what) {
    if (!reader->wrong) reader->wrong = what;
    return false;
}

static bool hex4(reader_t *reader, uint32_t *code) {
    *code = 0;
    for (int digit = 0; digit < 4; digit++, reader->at++) {
        if (reader->at == reader->end) return wrong(reader, "an escape is cut off");
        char byte = *reader->at;
        uint32_t value = byte >= '0' && byte <= '9'   ? (uint32_t)(byte - '0')
                         : byte >= 'a' && byte <= 'f' ? (uint32_t)(byte - 'a' + 10)
                         : byte >= 'A' && byte <= 'F' ? (uint32_t)(byte - 'A' + 10)
                                                      : 16;
        if (value == 16) return wrong(reader, "an escape is invalid");
        *code = *code << 4 | value;
    }
    return true;
}

static char *utf8(char *to, uint32_t code) {
    if (code < 0x80) {
        *to++ = (char)code;
    } else if (code < 0x800) {
        *to++ = (char)(0xc0 | code >> 6);
        *to++ = (char)(0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *to++ = (char)(0xe0 | code >> 12);
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    } else {
        *to++ = (char)(0xf0 | code >> 18);
        *to++ = (char)(0x80 | (code >> 12 & 0x3f));
        *to++ = (char)(0x80 | (code >> 6 & 0x3f));
        *to++ = (char)(0x80 | (code & 0x3f));
    }
    return to;
}

static const char *read_text(reader_t *reader) {
    if (reader->at == reader->end || *reader->at != '"') return wrong(reader, "a text is missing"), NULL;
    const char *begin = ++reader->at;
    bool is_plain = true;
    while (reader->at < reader->end && *reader->at != '"') {
        if (*reader->at == '\\' || (unsigned char)*reader->at < ' ') is_plain = false;
        reader->at += *reader->at == '\\' && reader->end - reader->at > 1 ? 2 : 1;
    }
    if (reader->at >= reader->end) return wrong(reader, "a text does not end"), NULL;
    const char *end = reader->at;
    if (is_plain) {
        reader->at++;
        return copied(begin, (size_t)(end - begin));
    }
    /* No escape is shorter than what it stands for. */
    char *text = wasaba_alloc((size_t)(end - begin) + 1), *to = text;
    for (reader->at = begin; reader->at < end;) {
        char byte = *reader->at++;
        if ((unsigned char)byte < ' ') return wrong(reader, "a text has a control character"), NULL;
        if (byte != '\\') {
            *to++ = byte;
            continue;
        }
        static const char names[] = "\"\\/bfnrt", meant[] = "\"\\/\b\f\n\r\t";
        const char *known = strchr(names, *reader->at);
        if (known && *known) {
            *to++ = meant[known - names];
            reader->at++;
            continue;
        }
        uint32_t code, low;
        if (*reader->at++ != 'u') return wrong(reader, "an escape is invalid"), NULL;
        if (!hex4(reader, &code)) return NULL;
        if (code >= 0xd800 && code < 0xdc00 && end - reader->at >= 6 && reader->at[0] == '\\' && reader->at[1] == 'u') {
            reader->at += 2;
            if (!hex4(reader, &low)) return NULL;
            code = low >= 0xdc00 && low < 0xe000 ? 0x10000 + ((code - 0xd800) << 10) + (low - 0xdc00) : 0xfffd;
        }
        to = utf8(to, code >= 0xd800 && code < 0xe000 ? 0xfffd : code);
    }
    reader->at = end + 1;
    return text;
}

static bool read_number(reader_t *reader, wasaba_json_t *json) {
    const char *begin = reader->at;
    bool digits = true;
    while (reader->at < reader->end && strchr("+-.eE0123456789", *reader->at) && *reader->at) {
        if (*reader->at < '0' || *reader->at > '9') digits = false;
        reader->at++;
    }
    size_t length = (size_t)(reader->at - begin);
    if (!length || length > 400) return wrong(reader, "a value is invalid");
    char *text = copied(begin, length), *end;
    json->type = WASABA_JSON_NUMBER;
    json->text = text;
    json->number = strtod(text, &end);
    if (*end || *text == '+' || *text == '.') return wrong(reader, "a number is invalid");
    json->is_whole = digits && (length < 20 || (length == 20 && strcmp(text, "18446744073709551615") <= 0));
    if (json->is_whole) json->whole = strtoull(text, NULL, 10);
    return true;
}

static bool literal(reader_t *reader, const char *word) {
    size_t length = strlen(word);
    if ((size_t)(reader->end - reader->at) < length || memcmp(reader->at, word, length)) return wrong(reader, "a value is invalid");
    reader->at += length;
    return true;
}

static bool read_value(reader_t *reader, wasaba_json_t *json);

static bool read_members(reader_t *reader, wasaba_json_t *json, bool is_object) {
    const char close = is_object ? '}' : ']';
    const wasaba_json_t **last = &json->first;
    json->type = is_object ? WASABA_JSON_OBJECT : WASABA_JSON_ARRAY;
    reader->at++;
    space(reader);
    if (reader->at < reader->end && *reader->at == close) return reader->at++, true;
    if (++reader->depth > 100) return wrong(reader, "it is nested too deeply");
    for (;;) {
        wasaba_json_t *member = wasaba_alloc(sizeof *member);
        member->in = json;
        space(reader);
        if (is_object) {
            if (!(member->key = read_text(reader))) return false;
            space(reader);
            if (!literal(reader, ":")) return false;
        }
        if (!read_value(reader, member)) return false;
        *last = member;
        last = &member->next;
        space(reader);
        if (reader->at == reader->end) return wrong(reader, "it is cut off");
        if (*reader->at == close) return reader->at++, reader->depth--, true;
        if (!literal(reader, ",")) return false;
    }
}

static bool read_value(reader_t *reader, wasaba_json_t *json) {
    json->of = reader->of;
    space(reader);
    if (reader->at == reader->end) return wrong(reader, "it is cut off");
    switch (*reader->at) {
    case '{': return read_members(reader, json, true);
    case '[': return read_members(reader, json, false);
    case '"': json->type = WASABA_JSON_TEXT; return (json->text = read_text(reader)) != NULL;
    case 't': json->type = WASABA_JSON_BOOLEAN; json->is_true = true; return literal(reader, "true");
    case 'f': json->type = WASABA_JSON_BOOLEAN; return literal(reader, "false");
    case 'n': return literal(reader, "null");
    default: return read_number(reader, json);
    }
}

const wasaba_json_t *wasaba_json_read(const char *text, size_t size, const char *of) {
    reader_t reader = {.at = text, .end = text + size, .of = of};
    wasaba_json_t *json = wasaba_alloc(sizeof *json);
    bool is_read = read_value(&reader, json);
    space(&reader);
    if (is_read && reader.at != reader.end) is_read = wrong(&reader, "something follows its end");
    if (is_read) return json;
    wasaba_failed("%s is not JSON: %s, at byte %zu", of, reader.wrong ? reader.wrong : "it is invalid", (size_t)(reader.at - text));
    return NULL;
}

/* The value at a path. Without one, `last` is how far the path is there, and `rest` what follows. */
static const wasaba_json_t *walked(const wasaba_json_t *json, const char *path, const wasaba_json_t **last, const char **rest) {
    while (json && *path) {
        *last = json;
        if (*path == '.') path++;
        *rest = path;
        if (*path == '[') {
            char *end;
            size_t index = strtoul(path + 1, &end, 10);
            if (json->type != WASABA_JSON_ARRAY) return NULL;
            for (json = json->first; json && index; index--) json = json->next;
            path = *end == ']' ? end + 1 : end;
        } else {
            size_t length = strcspn(path, ".[");
            if (json->type != WASABA_JSON_OBJECT) return NULL;
            for (json = json->first; json; json = json->next)
                if (strlen(json->key) == length && !memcmp(json->key, path, length)) break;
            path += length;
        }
    }
    return json;
}

static const wasaba_json_t *at(const wasaba_json_t *json, const char *path) {
    const wasaba_json_t *last, *found = walked(json, path, &last, &path);
    return found && found->type != WASABA_JSON_NULL ? found : NULL;
}

const wasaba_json_t *wasaba_json_at(const wasaba_json_t *json, const char *format, ...) {
    FORMATTED(path, format);
    return at(json, path);
}

/* The path of a value in its whole, `workers[0].busy`. */
static const char *path_of(const wasaba_json_t *json) {
    if (!json->in) return "";
    const char *before = path_of(json->in);
    if (json->in->type == WASABA_JSON_OBJECT) return wasaba_printf("%s%s%s", before, *before ? "." : "", json->key);
    size_t index = 0;
    for (const wasaba_json_t *each = json->in->first; each != json; each = each->next) index++;
    return wasaba_printf("%s[%zu]", before, index);
}

static const char *const json_types[] = {"null", "a boolean", "a number", "a text", "an array", "an object"};

static bool is_not(const char *file, int line, const wasaba_json_t *json, const char *what) {
    const char *path = path_of(json);
    const char *subject = wasaba_printf("%s%s%s", json->of, *path ? ": " : "", path);
    if (json->type == WASABA_JSON_NULL) return wasaba_bug_at(file, line, "%s is null, it must be %s", subject, what);
    return wasaba_bug_at(file, line, "%s is %s, not %s", subject, json_types[json->type], what);
}

/* What an object has, for messages. */
static const char *keys_of(const wasaba_json_t *object) {
    const char *keys = "";
    size_t count = 0;
    for (const wasaba_json_t *each = object->first; each; each = each->next)
        if (++count <= 10) keys = wasaba_printf("%s%s%s", keys, *keys ? ", " : "", each->key);
    return !count ? "nothing" : count > 10 ? wasaba_printf("%s and %zu more", keys, count - 10) : keys;
}

/* A fault: the path ends where the value `last` has no `rest`. */
static bool is_missing(const char *file, int line, const wasaba_json_t *last, const char *rest) {
    bool is_index = *rest == '[';
    if (last->type != (is_index ? WASABA_JSON_ARRAY : WASABA_JSON_OBJECT)) return is_not(file, line, last, is_index ? "an array" : "an object");
    const char *path = path_of(last), *key = copied(rest, is_index ? strcspn(rest, "]") + 1 : strcspn(rest, ".["));
    const char *whole = wasaba_printf("%s: %s%s%s", last->of, path, *path && !is_index ? "." : "", key);
    const char *subject = *path ? path : "it";
    if (is_index) {
        size_t count = 0;
        for (const wasaba_json_t *each = last->first; each; each = each->next) count++;
        return wasaba_bug_at(file, line, "%s is missing, %s has %zu", whole, subject, count);
    }
    nearest_t nearest = {.word = key};
    for (const wasaba_json_t *each = last->first; each; each = each->next) compare(&nearest, each->key, each->key);
    if (nearest.shown) return wasaba_bug_at(file, line, "%s is missing, did you mean %s%s%s?", whole, path, *path ? "." : "", nearest.shown);
    return wasaba_bug_at(file, line, "%s is missing, %s has %s", whole, subject, keys_of(last));
}

/* The value at a path; a fault, and NULL, if it is not as it must be. */
static const wasaba_json_t *needed(const char *file, int line, const wasaba_json_t *json, const char *path, wasaba_json_type_t type, const char *what) {
    const wasaba_json_t *last = NULL, *found;
    const char *rest = "";
    if (!json) {
        wasaba_bug_at(file, line, "there is no JSON to read `%s` from%s%s", path, call.has_error ? ", after the error: " : "",
                      call.has_error ? call.error.message : "");
        return NULL;
    }
    found = walked(json, path, &last, &rest);
    if (found && found->type == type) return found;
    if (found)
        is_not(file, line, found, what);
    else
        is_missing(file, line, last, rest);
    return NULL;
}

const wasaba_json_t *wasaba_json_missing_at(const char *file, int line, const wasaba_json_t *json, const char *path) {
    static const wasaba_json_t none = {.type = WASABA_JSON_NULL, .key = "", .text = "", .of = "nothing"};
    needed(file, line, json, path, (wasaba_json_type_t)-1, "a value");
    return &none;
}

static bool is_whole(const char *file, int line, const wasaba_json_t *json) {
    const char *path = path_of(json), *digits = json->text;
    if (json->is_whole) return true;
    const char *why = *digits == '-' ? "below 0: read it as a number" : digits[strspn(digits, "0123456789")] ? "not a whole number" : "2^64 or more";
    return wasaba_bug_at(file, line, "%s%s%s is %s, %s", json->of, *path ? ": " : "", path, json->text, why);
}

double wasaba_json_number_at(const char *file, int line, const wasaba_json_t *json, const char *format, ...) {
    FORMATTED(path, format);
    const wasaba_json_t *found = needed(file, line, json, path, WASABA_JSON_NUMBER, "a number");
    return found ? found->number : 0;
}

uint64_t wasaba_json_whole_at(const char *file, int line, const wasaba_json_t *json, const char *format, ...) {
    FORMATTED(path, format);
    const wasaba_json_t *found = needed(file, line, json, path, WASABA_JSON_NUMBER, "a whole number");
    return found && is_whole(file, line, found) ? found->whole : 0;
}

bool wasaba_json_boolean_at(const char *file, int line, const wasaba_json_t *json, const char *format, ...) {
    FORMATTED(path, format);
    const wasaba_json_t *found = needed(file, line, json, path, WASABA_JSON_BOOLEAN, "a boolean");
    return found && found->is_true;
}

const char *wasaba_json_text_at(const char *file, int line, const wasaba_json_t *json, const char *format, ...) {
    FORMATTED(path, format);
    const wasaba_json_t *found = needed(file, line, json, path, WASABA_JSON_TEXT, "a text");
    return found ? found->text : "";
}

const wasaba_json_t *wasaba_json_first_at(const char *file, int line, const wasaba_json_t *json, const char *format, ...) {
    FORMATTED(path, format);
    const wasaba_json_t *found = at(json, path);
    if (!found || found->type != WASABA_JSON_OBJECT) found = needed(file, line, json, path, WASABA_JSON_ARRAY, "an array or object");
    return found ? found->first : NULL;
}

/* The value at a path, if it is there, not null, and as it must be. */
static const wasaba_json_t *maybe(const char *file, int line, const wasaba_json_t *json, const char *path, wasaba_json_type_t type, const char *what) {
    const wasaba_json_t *found = at(json, path);
    if (!found || found->type == type) return found;
    is_not(file, line, found, what);
    return NULL;
}

bool wasaba_json_maybe_number_at(const char *file, int line, const wasaba_json_t *json, double *number, const char *format, ...) {
    FORMATTED(path, format);
    const wasaba_json_t *found = maybe(file, line, json, path, WASABA_JSON_NUMBER, "a number");
    if (found) *number = found->number;
    return found != NULL;
}

bool wasaba_json_maybe_whole_at(const char *file, int line, const wasaba_json_t *json, uint64_t *whole, const char *format, ...) {
    FORMATTED(path, format);
    const wasaba_json_t *found = maybe(file, line, json, path, WASABA_JSON_NUMBER, "a whole number");
    if (!found || !is_whole(file, line, found)) return false;
    *whole = found->whole;
    return true;
}

bool wasaba_json_maybe_boolean_at(const char *file, int line, const wasaba_json_t *json, bool *is_true, const char *format, ...) {
    FORMATTED(path, format);
    const wasaba_json_t *found = maybe(file, line, json, path, WASABA_JSON_BOOLEAN, "a boolean");
    if (found) *is_true = found->is_true;
    return found != NULL;
}

const char *wasaba_json_maybe_text_at(const char *file, int line, const wasaba_json_t *json, const char *format, ...) {
    FORMATTED(path, format);
    const wasaba_json_t *found = maybe(file, line, json, path, WASABA_JSON_TEXT, "a text");
    return found ? found->text : NULL;
}
