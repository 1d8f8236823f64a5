/* The functions of gen/full_plugin.h, answered by a test. */
#include "wasaba_test.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "gen/full_plugin.h"
#include "wasaba_internal.h"

enum { MANY = 256 };

typedef struct {
    const char *name, *value;
} named_t;

typedef struct {
    const char *method, *url, *body, *why;
    unsigned status;
    named_t expected[16], headers[16];
    size_t expected_count, header_count;
    bool is_used;
} answer_t;

typedef struct {
    bool expects;
    const char *text;
} turn_t;

typedef struct {
    const char *address, *why;
    turn_t turns[64];
    size_t turn, turn_count, matched;
    bool is_used;
} server_t;

typedef struct {
    char *method, *url;
    named_t headers[128];
    size_t header_count;
} request_t;

/* All of a test. Its texts are kept until the process ends: tests are small. */
static struct {
    const char *name;
    named_t settings[MANY], kept[MANY], before[MANY], files[MANY];
    size_t kept_sizes[MANY], before_sizes[MANY];
    size_t setting_count, kept_count, before_count, file_count;
    answer_t answers[MANY];
    size_t answer_count;
    server_t servers[MANY];
    size_t server_count;
    request_t requests[MANY];
    size_t request_count;
    const answer_t *responses[MANY];
    size_t response_count;
    const char *secrets[MANY];
    size_t secret_count;
    const char *logged[MANY];
    size_t logged_count;
    const char *error;
    /* What the last question found instead. */
    const char *found;
    bool error_is_said;
    wasaba_sample_t samples[4096];
    const char *results[MANY];
    size_t count, problem_count;
    uint64_t minute;
    bool has_failed;
} test;

static unsigned long passed, failed;

static char *kept(const char *text, size_t length) {
    char *copy = malloc(length + 1);
    if (!copy) abort();
    if (length) memcpy(copy, text, length);
    copy[length] = 0;
    return copy;
}

static const char *of(full_plugin_string_t *text) { return kept((const char *)text->ptr, text->len); }

static full_plugin_string_t lent(const char *text) { return (full_plugin_string_t){(uint8_t *)(uintptr_t)text, strlen(text)}; }

/* Bytes that the caller frees, as those of the bindings. */
static full_plugin_list_u8_t given(const char *bytes, size_t size) { return (full_plugin_list_u8_t){(uint8_t *)kept(bytes, size), size}; }

static const char *joined(const char *before, const char *between, const char *after) {
    size_t size = strlen(before) + strlen(between) + strlen(after) + 1;
    char *text = malloc(size);
    if (!text) abort();
    snprintf(text, size, "%s%s%s", before, between, after);
    return text;
}

static size_t room(size_t count, const char *what) {
    if (count == MANY) {
        fprintf(stderr, "%s: more than %d %s\n", test.name, MANY, what);
        exit(2);
    }
    return count;
}

static bool refuse(wasaba_plugin_types_error_t *error, const char *kind, const char *message) {
    *error = (wasaba_plugin_types_error_t){.kind = lent(kind), .message = lent(kept(message, strlen(message)))};
    return false;
}

/* ---- What a test calls ---- */

bool wasaba_test_that(const char *file, int line, bool holds, const char *condition) {
    const char *found = test.found, *error = test.error && !test.error_is_said ? test.error : "";
    test.found = NULL;
    if (holds) return true;
    test.has_failed = true;
    test.error_is_said = true;
    fprintf(stderr, "%s:%d: %s: it does not hold that %s%s%s%s%s\n", file, line, test.name ? test.name : "", condition, found ? "; " : "", found ? found : "",
            *error ? "; the call's error: " : "", error);
    return false;
}

static void finish(void) {
    if (!test.name) return;
    for (size_t index = 0; index < test.answer_count; index++)
        if (!test.answers[index].is_used && !test.has_failed) {
            fprintf(stderr, "%s: there was no request %s %s\n", test.name, test.answers[index].method, test.answers[index].url);
            test.has_failed = true;
        }
    if (test.has_failed)
        failed++;
    else
        passed++;
}

void wasaba_test(const char *name) {
    finish();
    wasaba_free_all();
    memset(&test, 0, sizeof test);
    test.name = name;
    test.error = "";
    test.minute = 1800000000;
}

int wasaba_test_end(void) {
    finish();
    wasaba_free_all();
    test.name = NULL;
    printf("%lu passed, %lu failed\n", passed, failed);
    return failed > 0;
}

void wasaba_test_set(const char *key, const char *value) {
    for (const wasaba_setting_t *const *each = wasaba_plugin.settings; each && *each; each++)
        if (!strcmp((*each)->key, key)) {
            test.settings[room(test.setting_count, "settings")] = (named_t){key, value};
            test.setting_count++;
            return;
        }
    fprintf(stderr, "%s: the plugin does not declare the setting `%s`\n", test.name, key);
    test.has_failed = true;
}

void wasaba_test_http(const char *url, unsigned status, const char *body) {
    test.answers[room(test.answer_count, "answers")] = (answer_t){.method = "GET", .url = url, .status = status, .body = body};
    test.answer_count++;
}

void wasaba_test_http_unreachable(const char *url, const char *why) {
    wasaba_test_http(url, 0, "");
    test.answers[test.answer_count - 1].why = why;
}

void wasaba_test_http_method(const char *method) { test.answers[test.answer_count - 1].method = method; }

void wasaba_test_http_expect(const char *name, const char *value) {
    answer_t *answer = &test.answers[test.answer_count - 1];
    if (answer->expected_count < 16) answer->expected[answer->expected_count++] = (named_t){name, value};
}

void wasaba_test_http_header(const char *name, const char *value) {
    answer_t *answer = &test.answers[test.answer_count - 1];
    if (answer->header_count < 16) answer->headers[answer->header_count++] = (named_t){name, value};
}

void wasaba_test_tcp(const char *address) {
    test.servers[room(test.server_count, "servers")] = (server_t){.address = address};
    test.server_count++;
}

void wasaba_test_tcp_unreachable(const char *address, const char *why) {
    wasaba_test_tcp(address);
    test.servers[test.server_count - 1].why = why;
}

static void say(bool expects, const char *text) {
    server_t *server = &test.servers[test.server_count - 1];
    if (server->turn_count < 64) server->turns[server->turn_count++] = (turn_t){expects, text};
}

void wasaba_test_tcp_expect(const char *text) { say(true, text); }
void wasaba_test_tcp_send(const char *text) { say(false, text); }

void wasaba_test_file(const char *path, const char *content) {
    test.files[room(test.file_count, "files")] = (named_t){path, content};
    test.file_count++;
}

const char *wasaba_test_error(void) { return test.error; }
bool wasaba_test_says(const char *text) { return strstr(test.error, text) != NULL; }
size_t wasaba_test_count(void) {
    char number[32];
    snprintf(number, sizeof number, "%zu", test.count);
    test.found = joined("it has returned ", "", number);
    return test.count;
}
size_t wasaba_test_problems(void) { return test.problem_count; }
const char *wasaba_test_result(size_t index) { return index < test.count ? test.results[index] : ""; }
const char *wasaba_test_logged(size_t index) { return index < test.logged_count ? test.logged[index] : NULL; }

/* As short as it can be read back. */
static const char *shown(wasaba_value_t value) {
    char *text = malloc(64);
    if (!text) abort();
    if (value.is_unsigned) return snprintf(text, 64, "%llu", (unsigned long long)value.whole), text;
    for (int digits = 1; digits <= 17; digits++) {
        snprintf(text, 64, "%.*g", digits, value.number);
        if (strtod(text, NULL) == value.number) break;
    }
    return text;
}

static bool has(const char *name, wasaba_value_t wanted, bool is_exact) {
    const char *values = "", *names = "";
    for (size_t index = 0; index < test.count; index++) {
        const wasaba_sample_t *sample = &test.samples[index];
        if (!sample->name) continue;
        if (index < 10) names = joined(names, *names ? ", " : "", sample->name);
        if (index == 10) names = joined(names, " ", "and more");
        if (strcmp(sample->name, name)) continue;
        if (is_exact ? sample->value.is_unsigned && sample->value.whole == wanted.whole : sample->value.number == wanted.number) return true;
        values = joined(values, *values ? " and " : "", shown(sample->value));
    }
    if (*values)
        test.found = joined(name, " is ", values);
    else if (*names)
        test.found = joined("the samples are ", "", names);
    else if (!*test.error)
        test.found = "there are no samples";
    return false;
}

bool wasaba_test_has(const char *name, double value) { return has(name, wasaba_float(value), false); }
bool wasaba_test_has_whole(const char *name, uint64_t value) { return has(name, wasaba_unsigned(value), true); }

/* The settings that the plugin gets. */
static wasaba_plugin_types_settings_t settings(void) {
    static wasaba_plugin_types_tuple2_string_setting_value_t pairs[2 * MANY];
    wasaba_plugin_types_settings_t list = {pairs, 0};
    test.secret_count = 0;
    for (const wasaba_setting_t *const *each = wasaba_plugin.settings; each && *each; each++) {
        bool is_set = false;
        for (size_t index = 0; index <= test.setting_count; index++) {
            const char *value = index < test.setting_count ? test.settings[index].value : (*each)->initial;
            if (index < test.setting_count ? strcmp(test.settings[index].name, (*each)->key) != 0 : is_set || !value) continue;
            wasaba_plugin_types_tuple2_string_setting_value_t *pair = &pairs[list.len++];
            pair->f0 = lent((*each)->key);
            is_set = true;
            if ((*each)->kind == WASABA_SECRET) {
                pair->f1.tag = WASABA_PLUGIN_TYPES_SETTING_VALUE_SECRET;
                test.secrets[room(test.secret_count, "secrets")] = value;
                pair->f1.val.secret.__handle = (int32_t)++test.secret_count;
            } else {
                pair->f1.tag = WASABA_PLUGIN_TYPES_SETTING_VALUE_TEXT;
                pair->f1.val.text = lent(value);
            }
        }
        if (!is_set && (*each)->required) {
            fprintf(stderr, "%s: the setting `%s` is required: set it with wasaba_test_set\n", test.name, (*each)->key);
            test.has_failed = true;
        }
    }
    return list;
}

static wasaba_plugin_types_settings_t start(void) {
    wasaba_free_all();
    memcpy(test.before, test.kept, sizeof test.kept);
    memcpy(test.before_sizes, test.kept_sizes, sizeof test.kept_sizes);
    test.before_count = test.kept_count;
    test.error = "";
    test.error_is_said = false;
    test.found = NULL;
    for (size_t index = 0; index < test.count; index++) test.samples[index].name = NULL;
    test.count = test.problem_count = test.request_count = test.response_count = 0;
    return settings();
}

static bool end(bool succeeded, const wasaba_plugin_types_error_t *error) {
    test.minute += 60;
    if (succeeded) return true;
    const char *kind = kept((const char *)error->kind.ptr, error->kind.len);
    test.error = joined(kind, ": ", kept((const char *)error->message.ptr, error->message.len));
    /* What a call that fails has set is not kept. */
    memcpy(test.kept, test.before, sizeof test.kept);
    memcpy(test.kept_sizes, test.before_sizes, sizeof test.kept_sizes);
    test.kept_count = test.before_count;
    return false;
}

static bool lacks(const void *function, const char *macro) {
    if (function) return false;
    fprintf(stderr, "%s: the plugin has no %s\n", test.name, macro);
    return test.has_failed = true;
}

bool wasaba_test_collect(void) {
    exports_wasaba_plugin_metrics_readings_t readings;
    wasaba_plugin_types_error_t error;
    if (lacks(&wasaba_collector, "WASABA_METRICS")) return false;
    wasaba_plugin_types_settings_t list = start();
    if (!end(exports_wasaba_plugin_metrics_collect(&list, &readings, &error), &error)) return false;
    test.count = readings.samples.len < 4096 ? readings.samples.len : 4096;
    test.problem_count = readings.problems.len;
    for (size_t index = 0; index < test.count; index++) {
        exports_wasaba_plugin_metrics_sample_t *sample = &readings.samples.ptr[index];
        bool is_unsigned = sample->value.tag == EXPORTS_WASABA_PLUGIN_METRICS_VALUE_UNSIGNED;
        test.samples[index] = (wasaba_sample_t){.name = kept((const char *)sample->name.ptr, sample->name.len),
                                                .value = is_unsigned ? wasaba_unsigned(sample->value.val.unsigned_) : wasaba_float(sample->value.val.float_)};
    }
    return true;
}

bool wasaba_test_check(void) {
    static const char *const statuses[] = {"ok", "warning", "critical", "unknown"};
    exports_wasaba_plugin_checks_check_results_t results;
    wasaba_plugin_types_error_t error;
    if (lacks(&wasaba_checker, "WASABA_CHECKS")) return false;
    wasaba_plugin_types_settings_t list = start();
    if (!end(exports_wasaba_plugin_checks_check(&list, &results, &error), &error)) return false;
    test.count = results.reports.len < MANY ? results.reports.len : MANY;
    for (size_t index = 0; index < test.count; index++) {
        exports_wasaba_plugin_checks_report_t *report = &results.reports.ptr[index];
        const char *text = joined(statuses[report->status & 3], ": ", of(&report->message));
        test.results[index] = report->name.len ? joined(of(&report->name), ": ", text) : text;
    }
    return true;
}

bool wasaba_test_gather(void) {
    exports_wasaba_plugin_metadata_metadata_results_t results;
    wasaba_plugin_types_error_t error;
    if (lacks(&wasaba_gatherer, "WASABA_METADATA")) return false;
    wasaba_plugin_types_settings_t list = start();
    if (!end(exports_wasaba_plugin_metadata_gather(&list, &results, &error), &error)) return false;
    test.count = results.documents.len < MANY ? results.documents.len : MANY;
    test.problem_count = results.problems.len;
    for (size_t index = 0; index < test.count; index++)
        test.results[index] = joined(of(&results.documents.ptr[index].namespace_), ": ", of(&results.documents.ptr[index].json));
    return true;
}

/* ---- types ---- */

wasaba_plugin_types_borrow_secret_t wasaba_plugin_types_borrow_secret(wasaba_plugin_types_own_secret_t own) {
    return (wasaba_plugin_types_borrow_secret_t){own.__handle};
}

static const char *secret(wasaba_plugin_types_borrow_secret_t handle) { return test.secrets[handle.__handle - 1]; }

uint32_t wasaba_plugin_types_method_secret_length(wasaba_plugin_types_borrow_secret_t self) { return (uint32_t)strlen(secret(self)); }

bool wasaba_plugin_types_method_secret_reveal(wasaba_plugin_types_borrow_secret_t self, full_plugin_string_t *ret, wasaba_plugin_types_error_t *err) {
    (void)err;
    *ret = lent(secret(self));
    return true;
}

/* ---- http ---- */

wasaba_plugin_http_own_request_t wasaba_plugin_http_constructor_request(full_plugin_string_t *method, full_plugin_string_t *url) {
    test.requests[room(test.request_count, "requests")] = (request_t){.method = (char *)(uintptr_t)of(method), .url = (char *)(uintptr_t)of(url)};
    return (wasaba_plugin_http_own_request_t){(int32_t)test.request_count++};
}

wasaba_plugin_http_borrow_request_t wasaba_plugin_http_borrow_request(wasaba_plugin_http_own_request_t own) {
    return (wasaba_plugin_http_borrow_request_t){own.__handle};
}

void wasaba_plugin_http_request_drop_own(wasaba_plugin_http_own_request_t own) { (void)own; }

static bool set(wasaba_plugin_http_borrow_request_t self, const char *name, const char *value) {
    request_t *request = &test.requests[self.__handle];
    if (request->header_count < 128) request->headers[request->header_count++] = (named_t){name, value};
    return true;
}

bool wasaba_plugin_http_method_request_set_header(wasaba_plugin_http_borrow_request_t self, full_plugin_string_t *name, full_plugin_string_t *value,
                                                  wasaba_plugin_http_error_t *err) {
    (void)err;
    return set(self, of(name), of(value));
}

bool wasaba_plugin_http_method_request_set_header_secret(wasaba_plugin_http_borrow_request_t self, full_plugin_string_t *name, full_plugin_string_t *prefix,
                                                         wasaba_plugin_http_borrow_secret_t hidden, wasaba_plugin_http_error_t *err) {
    (void)err;
    return set(self, of(name), joined(of(prefix), "", secret(hidden)));
}

bool wasaba_plugin_http_method_request_set_basic_auth(wasaba_plugin_http_borrow_request_t self, full_plugin_string_t *user,
                                                      wasaba_plugin_http_borrow_secret_t password, wasaba_plugin_http_error_t *err) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    (void)err;
    const char *plain = joined(of(user), ":", secret(password));
    size_t length = strlen(plain), to = 0;
    char *base64 = malloc(4 * (length / 3 + 1) + 1);
    if (!base64) abort();
    for (size_t from = 0; from < length; from += 3) {
        uint32_t bits = (uint32_t)(unsigned char)plain[from] << 16;
        if (from + 1 < length) bits |= (uint32_t)(unsigned char)plain[from + 1] << 8;
        if (from + 2 < length) bits |= (unsigned char)plain[from + 2];
        base64[to++] = digits[bits >> 18];
        base64[to++] = digits[bits >> 12 & 63];
        base64[to++] = from + 1 < length ? digits[bits >> 6 & 63] : '=';
        base64[to++] = from + 2 < length ? digits[bits & 63] : '=';
    }
    base64[to] = 0;
    return set(self, "authorization", joined("Basic ", "", base64));
}

bool wasaba_plugin_http_method_request_set_header_lines(wasaba_plugin_http_borrow_request_t self, wasaba_plugin_http_borrow_secret_t lines,
                                                        wasaba_plugin_http_error_t *err) {
    (void)err;
    for (const char *line = secret(lines); *line;) {
        size_t length = strcspn(line, "\n"), colon = strcspn(line, ":\n");
        if (colon < length) {
            const char *value = line + colon + 1;
            while (*value == ' ') value++;
            size_t end = (size_t)(line + length - value);
            set(self, kept(line, colon), kept(value, end && value[end - 1] == '\r' ? end - 1 : end));
        }
        line += length + (line[length] == '\n');
    }
    return true;
}

static bool sends(const request_t *request, const char *name, const char *value) {
    for (size_t index = request->header_count; index-- > 0;)
        if (!strcasecmp(request->headers[index].name, name)) return !value || !strcmp(request->headers[index].value, value);
    return false;
}

bool wasaba_plugin_http_method_request_has_header(wasaba_plugin_http_borrow_request_t self, full_plugin_string_t *name) {
    return sends(&test.requests[self.__handle], of(name), NULL);
}

void wasaba_plugin_http_method_request_set_body(wasaba_plugin_http_borrow_request_t self, full_plugin_list_u8_t *body) { (void)self, (void)body; }

bool wasaba_plugin_http_send(wasaba_plugin_http_borrow_request_t self, wasaba_plugin_http_own_response_t *ret, wasaba_plugin_http_error_t *err) {
    const request_t *request = &test.requests[self.__handle];
    answer_t *last = NULL;
    for (size_t index = 0; index < test.answer_count; index++) {
        answer_t *answer = &test.answers[index];
        bool fits = !strcmp(answer->method, request->method) && !strcmp(answer->url, request->url);
        for (size_t header = 0; fits && header < answer->expected_count; header++)
            fits = sends(request, answer->expected[header].name, answer->expected[header].value);
        if (!fits) continue;
        last = answer;
        if (!answer->is_used) break;
    }
    if (!last) {
        fprintf(stderr, "%s: there is no answer to %s %s with its headers\n", test.name, request->method, request->url);
        test.has_failed = true;
        return refuse(err, "unreachable", "the test has no answer");
    }
    last->is_used = true;
    if (last->why) return refuse(err, "unreachable", last->why);
    test.responses[room(test.response_count, "responses")] = last;
    ret->__handle = (int32_t)test.response_count++;
    return true;
}

wasaba_plugin_http_borrow_response_t wasaba_plugin_http_borrow_response(wasaba_plugin_http_own_response_t own) {
    return (wasaba_plugin_http_borrow_response_t){own.__handle};
}

void wasaba_plugin_http_response_drop_own(wasaba_plugin_http_own_response_t own) { (void)own; }

uint16_t wasaba_plugin_http_method_response_status(wasaba_plugin_http_borrow_response_t self) { return (uint16_t)test.responses[self.__handle]->status; }

void wasaba_plugin_http_method_response_headers(wasaba_plugin_http_borrow_response_t self, full_plugin_list_tuple2_string_list_u8_t *ret) {
    const answer_t *answer = test.responses[self.__handle];
    ret->len = answer->header_count;
    ret->ptr = wasaba_alloc(ret->len * sizeof *ret->ptr);
    for (size_t index = 0; index < ret->len; index++) {
        ret->ptr[index].f0 = lent(answer->headers[index].name);
        full_plugin_string_t value = lent(answer->headers[index].value);
        ret->ptr[index].f1 = (full_plugin_list_u8_t){value.ptr, value.len};
    }
}

bool wasaba_plugin_http_method_response_body(wasaba_plugin_http_borrow_response_t self, full_plugin_list_u8_t *ret, wasaba_plugin_http_error_t *err) {
    (void)err;
    *ret = given(test.responses[self.__handle]->body, strlen(test.responses[self.__handle]->body));
    return true;
}

/* ---- tcp ---- */

static bool connect_to(const char *address, wasaba_plugin_tcp_own_connection_t *ret, wasaba_plugin_tcp_error_t *err) {
    for (size_t index = 0; index < test.server_count; index++) {
        server_t *server = &test.servers[index];
        if (server->is_used || strcmp(server->address, address)) continue;
        server->is_used = true;
        ret->__handle = (int32_t)index;
        return !server->why || refuse(err, "unreachable", server->why);
    }
    fprintf(stderr, "%s: there is no server at %s\n", test.name, address);
    test.has_failed = true;
    return refuse(err, "unreachable", "the test has no such server");
}

bool wasaba_plugin_tcp_static_connection_connect(full_plugin_string_t *host, uint16_t port, uint64_t *timeout, wasaba_plugin_tcp_own_connection_t *ret,
                                                 wasaba_plugin_tcp_error_t *err) {
    char number[8];
    (void)timeout;
    snprintf(number, sizeof number, "%u", port);
    return connect_to(joined(of(host), ":", number), ret, err);
}

bool wasaba_plugin_tcp_static_connection_connect_unix(full_plugin_string_t *path, uint64_t *timeout, wasaba_plugin_tcp_own_connection_t *ret,
                                                      wasaba_plugin_tcp_error_t *err) {
    (void)timeout;
    return connect_to(joined("unix:", "", of(path)), ret, err);
}

wasaba_plugin_tcp_borrow_connection_t wasaba_plugin_tcp_borrow_connection(wasaba_plugin_tcp_own_connection_t own) {
    return (wasaba_plugin_tcp_borrow_connection_t){own.__handle};
}

void wasaba_plugin_tcp_connection_drop_own(wasaba_plugin_tcp_own_connection_t own) { (void)own; }
bool wasaba_plugin_tcp_method_connection_is_local(wasaba_plugin_tcp_borrow_connection_t self) { return (void)self, true; }
void wasaba_plugin_tcp_method_connection_set_timeout(wasaba_plugin_tcp_borrow_connection_t self, uint64_t *timeout) { (void)self, (void)timeout; }
bool wasaba_plugin_tcp_method_connection_finish(wasaba_plugin_tcp_borrow_connection_t self, wasaba_plugin_tcp_error_t *err) {
    return (void)self, (void)err, true;
}

bool wasaba_plugin_tcp_method_connection_read(wasaba_plugin_tcp_borrow_connection_t self, uint32_t max, full_plugin_list_u8_t *ret,
                                              wasaba_plugin_tcp_error_t *err) {
    server_t *server = &test.servers[self.__handle];
    *ret = (full_plugin_list_u8_t){NULL, 0};
    if (server->turn == server->turn_count) return true;
    turn_t *turn = &server->turns[server->turn];
    if (turn->expects) return refuse(err, "timeout", "the server waits for more");
    size_t length = strlen(turn->text), taken = length < max ? length : max;
    *ret = given(turn->text, taken);
    turn->text += taken;
    if (taken == length) server->turn++;
    return true;
}

static bool written(server_t *server, const char *bytes, size_t size, wasaba_plugin_tcp_error_t *err) {
    for (size_t index = 0; index < size; index++) {
        turn_t *turn = &server->turns[server->turn];
        if (server->turn == server->turn_count || !turn->expects) return true;
        if (turn->text[server->matched] != bytes[index]) return refuse(err, "unreachable", joined("the server expects \"", turn->text, "\""));
        if (!turn->text[++server->matched]) {
            server->turn++;
            server->matched = 0;
        }
    }
    return true;
}

bool wasaba_plugin_tcp_method_connection_write(wasaba_plugin_tcp_borrow_connection_t self, full_plugin_list_u8_t *bytes, wasaba_plugin_tcp_error_t *err) {
    return written(&test.servers[self.__handle], (const char *)bytes->ptr, bytes->len, err);
}

bool wasaba_plugin_tcp_method_connection_write_secret(wasaba_plugin_tcp_borrow_connection_t self, full_plugin_list_u8_t *prefix,
                                                      wasaba_plugin_tcp_borrow_secret_t hidden, full_plugin_list_u8_t *suffix,
                                                      wasaba_plugin_tcp_error_t *err) {
    server_t *server = &test.servers[self.__handle];
    return written(server, (const char *)prefix->ptr, prefix->len, err) && written(server, secret(hidden), strlen(secret(hidden)), err) &&
           written(server, (const char *)suffix->ptr, suffix->len, err);
}

wasaba_plugin_tcp_own_tls_options_t wasaba_plugin_tcp_constructor_tls_options(void) { return (wasaba_plugin_tcp_own_tls_options_t){0}; }
wasaba_plugin_tcp_borrow_tls_options_t wasaba_plugin_tcp_borrow_tls_options(wasaba_plugin_tcp_own_tls_options_t own) {
    return (wasaba_plugin_tcp_borrow_tls_options_t){own.__handle};
}
void wasaba_plugin_tcp_tls_options_drop_own(wasaba_plugin_tcp_own_tls_options_t own) { (void)own; }
void wasaba_plugin_tcp_method_tls_options_set_server_name(wasaba_plugin_tcp_borrow_tls_options_t self, full_plugin_string_t *name) {
    (void)self, (void)name;
}
void wasaba_plugin_tcp_method_tls_options_set_alpn(wasaba_plugin_tcp_borrow_tls_options_t self, full_plugin_list_string_t *protocols) {
    (void)self, (void)protocols;
}

/* A test's conversation is in plain text. */
bool wasaba_plugin_tcp_method_connection_start_tls(wasaba_plugin_tcp_borrow_connection_t self, wasaba_plugin_tcp_borrow_tls_options_t options,
                                                   wasaba_plugin_tcp_tls_info_t *ret, wasaba_plugin_tcp_tls_failure_t *err) {
    (void)self, (void)options, (void)err;
    *ret = (wasaba_plugin_tcp_tls_info_t){.protocol = lent("TLSv1.3"), .verified = lent("full")};
    return true;
}

/* ---- kv ---- */

static size_t slot(const char *key) {
    size_t index = 0;
    while (index < test.kept_count && strcmp(test.kept[index].name, key)) index++;
    return index;
}

bool wasaba_plugin_kv_get(full_plugin_string_t *key, full_plugin_list_u8_t *ret) {
    size_t index = slot(of(key));
    if (index == test.kept_count) return false;
    *ret = given(test.kept[index].value, test.kept_sizes[index]);
    return true;
}

bool wasaba_plugin_kv_set(full_plugin_string_t *key, full_plugin_list_u8_t *value, uint64_t *time, wasaba_plugin_kv_error_t *err) {
    (void)time;
    if (!key->len || key->len > 255) return refuse(err, "invalid", "the key is empty or longer than 255 bytes");
    size_t index = room(slot(of(key)), "kept values");
    if (index == test.kept_count) test.kept_count++;
    test.kept[index] = (named_t){of(key), kept((const char *)value->ptr, value->len)};
    test.kept_sizes[index] = value->len;
    return true;
}

void wasaba_plugin_kv_delete(full_plugin_string_t *key) {
    size_t index = slot(of(key));
    if (index == test.kept_count) return;
    test.kept[index] = test.kept[--test.kept_count];
    test.kept_sizes[index] = test.kept_sizes[test.kept_count];
}

static int by_text(const void *one, const void *other) {
    return strcmp((const char *)((const full_plugin_string_t *)one)->ptr, (const char *)((const full_plugin_string_t *)other)->ptr);
}

void wasaba_plugin_kv_keys(full_plugin_string_t *prefix, full_plugin_list_string_t *ret) {
    *ret = (full_plugin_list_string_t){wasaba_alloc(test.kept_count * sizeof *ret->ptr), 0};
    for (size_t index = 0; index < test.kept_count; index++)
        if (!strncmp(test.kept[index].name, (const char *)prefix->ptr, prefix->len)) ret->ptr[ret->len++] = lent(test.kept[index].name);
    qsort(ret->ptr, ret->len, sizeof *ret->ptr, by_text);
}

/* ---- log, files, crypto, call ---- */

void wasaba_plugin_log_write(wasaba_plugin_log_level_t level, full_plugin_string_t *line) {
    static const char *const levels[] = {"debug", "info", "warning", "error"};
    test.logged[room(test.logged_count, "lines")] = joined(levels[level & 3], ": ", of(line));
    test.logged_count++;
}

bool wasaba_plugin_files_static_file_open(full_plugin_string_t *path, wasaba_plugin_files_own_file_t *ret, wasaba_plugin_files_error_t *err) {
    for (size_t index = 0; index < test.file_count; index++)
        if (!strcmp(test.files[index].name, of(path))) {
            ret->__handle = (int32_t)index;
            return true;
        }
    return refuse(err, "failed", joined("cannot open `", of(path), "`: it does not exist"));
}

wasaba_plugin_files_borrow_file_t wasaba_plugin_files_borrow_file(wasaba_plugin_files_own_file_t own) {
    return (wasaba_plugin_files_borrow_file_t){own.__handle};
}

void wasaba_plugin_files_file_drop_own(wasaba_plugin_files_own_file_t own) { (void)own; }

bool wasaba_plugin_files_method_file_stat(wasaba_plugin_files_borrow_file_t self, wasaba_plugin_files_file_stat_t *ret, wasaba_plugin_files_error_t *err) {
    (void)err;
    *ret = (wasaba_plugin_files_file_stat_t){.size = strlen(test.files[self.__handle].value), .id = 1};
    return true;
}

bool wasaba_plugin_files_method_file_read_at(wasaba_plugin_files_borrow_file_t self, uint64_t offset, uint32_t max, full_plugin_list_u8_t *ret,
                                             wasaba_plugin_files_error_t *err) {
    (void)err;
    const char *content = test.files[self.__handle].value;
    size_t length = strlen(content), from = offset < length ? (size_t)offset : length, rest = length - from;
    *ret = given(content + from, rest < max ? rest : max);
    return true;
}

bool wasaba_plugin_crypto_scram_sha256(wasaba_plugin_crypto_borrow_secret_t password, full_plugin_list_u8_t *salt, uint32_t iterations,
                                       full_plugin_string_t *auth_message, wasaba_plugin_crypto_scram_proof_t *ret, wasaba_plugin_crypto_error_t *err) {
    (void)password, (void)auth_message;
    if (!salt->len || iterations < 4096) return refuse(err, "invalid", "an empty salt, or less than 4,096 iterations");
    full_plugin_string_t proof = lent("proof"), signature = lent("signature");
    *ret = (wasaba_plugin_crypto_scram_proof_t){.client_proof = {proof.ptr, proof.len}, .server_signature = {signature.ptr, signature.len}};
    return true;
}

void wasaba_plugin_crypto_postgres_md5(wasaba_plugin_crypto_borrow_secret_t password, full_plugin_string_t *user, full_plugin_list_u8_t *salt,
                                       full_plugin_string_t *ret) {
    (void)password, (void)user, (void)salt;
    *ret = lent("md500000000000000000000000000000000");
}

uint64_t wasaba_plugin_call_remaining_ms(void) { return 10000; }
uint64_t wasaba_plugin_call_minute(void) { return test.minute / 60 * 60; }

bool wasaba_plugin_call_limit(full_plugin_string_t *name, uint64_t *ret) {
    static const struct {
        const char *name;
        uint64_t limit;
    } limits[] = {{"samples", 1000}, {"body_kib", 4096}, {"file_kib", 4096}, {"kv_kib", 64}};
    for (size_t index = 0; index < sizeof limits / sizeof *limits; index++)
        if (!strcmp(limits[index].name, of(name))) return *ret = limits[index].limit, true;
    return false;
}

void wasaba_plugin_call_agent_version(full_plugin_string_t *ret) { *ret = lent("0.2.0"); }

bool wasaba_plugin_call_has(full_plugin_string_t *feature) {
    static const char *const names[] = {"http", "tcp", "kv", "log", "files", "crypto", "call"};
    for (size_t index = 0; index < sizeof names / sizeof *names; index++) {
        size_t length = strlen(names[index]);
        if (feature->len >= length && !memcmp(feature->ptr, names[index], length) && (feature->len == length || feature->ptr[length] == '.')) return true;
    }
    return false;
}
