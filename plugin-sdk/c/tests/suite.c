/* The SDK's own tests: each begins with the sentence that it tests. */
#include <math.h>
#include <stdio.h>
#include <string.h>

#include "wasaba_test.h"

static const wasaba_setting_t url = {WASABA_URL, "url", "http://localhost/a"};
static const wasaba_setting_t port = {WASABA_PORT, "port", "7"};
static const wasaba_setting_t wait = {WASABA_DURATION, "wait", "500ms"};
static const wasaba_setting_t optional = {WASABA_TEXT, "optional"};
static const wasaba_setting_t servers = {WASABA_ENDPOINT, "servers", .repeatable = true};
static const wasaba_setting_t token = {WASABA_SECRET, "token"};
static const wasaba_setting_t undeclared = {WASABA_URL, "uri"};

/* What the plugin does is chosen by each test. */
static bool (*does)(void);

static bool call(void) { return does(); }

static bool run(bool (*what)(void)) {
    does = what;
    return wasaba_test_collect();
}

static const char *sampled;

static bool samples_a_name(void) { return wasaba_sample(1, "%s", sampled) != NULL; }
static bool samples_nan(void) { return wasaba_sample(NAN, "q.jobs.waiting") != NULL; }

static bool samples_numbers(void) {
    wasaba_sample_t *large = wasaba_sample(UINT64_MAX, "q.jobs.waiting");
    WASABA_CHECK(large->value.is_unsigned && large->value.whole == UINT64_MAX);
    WASABA_CHECK(!wasaba_sample(-3, "q.jobs.waiting")->value.is_unsigned && wasaba_sample(3, "q.jobs.waiting")->value.is_unsigned);
    WASABA_CHECK(wasaba_sample(0.5f, "q.jobs.waiting")->value.number == 0.5);
    WASABA_CHECK(wasaba_label(wasaba_label(large, "a", "1"), "b", "2")->label_count == 2);
    return true;
}

static bool reads_settings(void) {
    const char *host;
    uint16_t number;
    WASABA_CHECK(!strcmp(wasaba_text(&url), "http://localhost/a"));
    WASABA_CHECK(wasaba_port(&port) == 7 && wasaba_duration_ms(&wait) == 500);
    WASABA_CHECK(!wasaba_get(&optional) && !wasaba_secret(&token));
    const char *const *all = wasaba_all(&servers);
    WASABA_CHECK(!strcmp(all[0], "db:5432") && !strcmp(all[1], "[::1]:1") && !all[2]);
    WASABA_CHECK(wasaba_endpoint(all[1], &host, &number) && !strcmp(host, "[::1]") && number == 1);
    WASABA_CHECK(!wasaba_endpoint("db", &host, &number) && !wasaba_endpoint("db:99999", &host, &number));
    return true;
}

static bool reads_an_undeclared_setting(void) { return wasaba_text(&undeclared) != NULL; }
static bool reads_a_missing_setting(void) { return wasaba_text(&optional) != NULL; }
static bool fails_without_a_word(void) { return false; }

static bool asks(void) { return wasaba_http_ok(wasaba_http_get(wasaba_text(&url))) != NULL; }

static bool follows(void) {
    wasaba_request_t *request = wasaba_http_get(wasaba_text(&url));
    wasaba_http_header_secret(request, "x-token", "", wasaba_secret(&token));
    wasaba_http_header(request, "Cookie", "c");
    wasaba_http_follow(request, 3);
    return wasaba_http_ok(request) != NULL;
}

static bool sends_secrets(void) {
    const wasaba_secret_t *secret = wasaba_secret(&token);
    wasaba_request_t *request = wasaba_http_get(wasaba_text(&url));
    wasaba_http_header_secret(request, "x-token", "token ", secret);
    wasaba_http_header_secret(request, "y", "", NULL);
    wasaba_http_basic_auth(request, "me", secret);
    wasaba_http_header_lines(request, secret);
    WASABA_CHECK(wasaba_http_has_header(request, "X-LINE") && !wasaba_http_has_header(request, "y"));
    return wasaba_http_ok(request) != NULL;
}

static bool talks(void) {
    wasaba_connection_t *connection = wasaba_tcp_connect("db", 1, 0);
    wasaba_bytes_t rest;
    if (!connection || !wasaba_tcp_write_secret(connection, "AUTH ", wasaba_secret(&token), "\r\n")) return false;
    const char *first = wasaba_tcp_line(connection), *second = wasaba_tcp_line(connection);
    WASABA_CHECK(first && !strcmp(first, "+OK") && second && !strcmp(second, "4"));
    WASABA_CHECK(wasaba_tcp_read_exactly(connection, 4, &rest) && !memcmp(rest.bytes, "abcd", 4));
    wasaba_tcp_close(connection);
    wasaba_tcp_close(connection);
    WASABA_CHECK(!wasaba_tcp_line(connection) && wasaba_error()->kind == WASABA_UNREACHABLE);
    return true;
}

static uint64_t now[2], grown[2];
static bool has_grown;

static bool grows(void) {
    has_grown = wasaba_kv_growth("g", 2, now, grown);
    return true;
}

static bool keeps_and_fails(void) {
    wasaba_kv_set("k", "v", 1, 0);
    return wasaba_failed("no");
}

static bool finds_nothing_kept(void) {
    wasaba_bytes_t value;
    return !wasaba_kv_get("k", &value);
}

static wasaba_kind_t kind;
static bool is_down;

static bool reads_what_may_be_down(void) { return is_down ? wasaba_fail(kind, "gone") : true; }
static bool says_whether_it_is_up(void) { return wasaba_up(reads_what_may_be_down(), "q.up.up"); }

static bool reads_json(void) {
    static const char text[] = " {\"a\": [1, -2.5e1, {\"b\": \"\\u65e5\\ud83d\\ude00\\n\\\"\"}], \"large\": 18446744073709551615, \"n\": null, \"t\": true} ";
    const wasaba_json_t *json = wasaba_json_read(text, sizeof text - 1, "it");
    if (!json) return false;
    WASABA_CHECK(wasaba_json_number(json, "a[%d]", 1) == -25);
    WASABA_CHECK(wasaba_json_whole(json, "large") == UINT64_MAX);
    WASABA_CHECK(!strcmp(wasaba_json_text(json, "a[2].b"), "日😀\n\""));
    WASABA_CHECK(!wasaba_json_at(json, "a[3]") && !wasaba_json_at(json, "a.b") && wasaba_json_at(json, "t")->is_true);
    WASABA_CHECK(wasaba_json_boolean(json, "t") && !strcmp(wasaba_json_at(json, "a[1]")->text, "-2.5e1"));
    WASABA_CHECK(!wasaba_json_at(json, "n") && wasaba_json_first(json, "a")->type == WASABA_JSON_NUMBER);
    size_t count = 0;
    WASABA_EACH(each, json, "a") count++;
    WASABA_CHECK(count == 3);
    return true;
}

static bool refuses_what_is_not_json(void) {
    static const char *const texts[] = {"", "{", "[1,]", "{\"a\"}", "[1] 2", "nul", "+1", "1e", "\"a", "\"\\x\"", "\"\\u12\"", "\"a\nb\"", "{1:2}", "<html>", ".5"};
    for (size_t index = 0; index < sizeof texts / sizeof *texts; index++) {
        bool is_read = wasaba_json_read(texts[index], strlen(texts[index]), "it") != NULL;
        if (is_read) return wasaba_failed("%s was read", texts[index]);
    }
    char deep[5000];
    memset(deep, '[', sizeof deep);
    return !wasaba_json_read(deep, sizeof deep, "it");
}

static const char page_text[] = "{\"jobs\":{\"waiting\":1.5,\"done\":null,\"lost\":-3,\"large\":18446744073709551616},\"workers\":[{\"busy\":true,\"name\":\"a\"}]}";

/* How JSON is read, and at which path. */
static char how;
static const char *path;
static int line;

#define HERE (line = __LINE__, path)

static bool reads_what_is_needed(void) {
    const wasaba_json_t *page = how == '0' ? NULL : wasaba_json_read(page_text, sizeof page_text - 1, "the page");
    switch (how) {
    case 'n': return wasaba_json_number(page, "%s", HERE) == 0;
    case 'w': return wasaba_json_whole(page, "%s", HERE) == 0;
    case 'b': return !wasaba_json_boolean(page, "%s", HERE);
    case 't': return !*wasaba_json_text(page, "%s", HERE);
    case 'e': return !wasaba_json_first(page, "%s", HERE);
    case 'i': return wasaba_json_number(wasaba_json_first(page, "workers"), "%s", HERE) == 0;
    default: wasaba_unreachable("gone"); return wasaba_json_number(page, "%s", HERE) == 0;
    }
}

static bool reads_what_may_be_there(void) {
    const wasaba_json_t *page = wasaba_json_read(page_text, sizeof page_text - 1, "the page");
    double number = 7;
    uint64_t whole = 7;
    bool is_true = false;
    WASABA_CHECK(wasaba_json_maybe_number(page, &number, "jobs.%s", "waiting") && number == 1.5);
    WASABA_CHECK(!wasaba_json_maybe_whole(page, &whole, "jobs.done") && !wasaba_json_maybe_whole(page, &whole, "jobs.nothing") && whole == 7);
    WASABA_CHECK(wasaba_json_maybe_boolean(page, &is_true, "workers[0].busy") && is_true);
    WASABA_CHECK(!wasaba_json_maybe_boolean(page, &is_true, "workers[1].busy") && is_true);
    WASABA_CHECK(!strcmp(wasaba_json_maybe_text(page, "workers[0].name"), "a") && !wasaba_json_maybe_text(page, "jobs.done"));
    return true;
}

static bool reads_another_type_than_may_be_there(void) {
    const wasaba_json_t *page = wasaba_json_read(page_text, sizeof page_text - 1, "the page");
    double number = 7;
    return !wasaba_json_maybe_number(page, &number, "jobs") && number == 7;
}

static bool reads_a_secret_as_text(void) { return !*wasaba_text(&token); }
static bool gets_a_secret_as_text(void) { return !wasaba_get(&token); }
static bool reads_a_text_as_secret(void) { return !wasaba_secret(&url); }

static bool connects_to_a_socket(void) { return wasaba_tcp_connect_unix("/run/a", 0) != NULL; }

static bool reads_files(void) {
    size_t size;
    const char *whole = wasaba_file_read("/f", 6, &size);
    WASABA_CHECK(whole && size == 6 && !strcmp(whole, "abcdef"));
    WASABA_CHECK(!wasaba_file_read("/f", 5, &size) && wasaba_error()->kind == WASABA_TOO_LARGE);
    WASABA_CHECK(!wasaba_file_read("/g", 5, &size) && strstr(wasaba_error()->message, "/g"));
    return true;
}

static bool warns_twice(void) {
    wasaba_log_warning_daily("disk", "the disk is %d %% full", 90);
    wasaba_log_warning_daily("disk", "the disk is full");
    return true;
}

static bool has_two_targets(void) {
    wasaba_unreachable("gone");
    wasaba_problem("db%d", 1);
    return true;
}

static bool is_busy(void) { return wasaba_busy(90000, "later"); }

static bool segments(void) { return !strcmp(wasaba_segment("config|get my.db-1/日"), "config_get_my_db-1__"); }

static bool checks(void) {
    wasaba_ok("", "%d there", 3);
    wasaba_critical("else", "gone");
    return true;
}

static bool gathers(void) {
    wasaba_document("", "{\"a\":%d}", 1);
    return true;
}

WASABA_PLUGIN(.name = "suite", .version = "0", .summary = "",
              .reaches = WASABA_REACH_HTTP | WASABA_REACH_TCP | WASABA_REACH_FILE, .settings = WASABA_SETTINGS(&url, &port, &wait, &optional, &servers, &token),
              .graphs = WASABA_GRAPHS({"q.jobs", "Jobs", WASABA_UNIT_INTEGER, WASABA_LINES({WASABA_GAUGE, "waiting", ""})},
                                      {"q.up", "Up", WASABA_UNIT_INTEGER, WASABA_LINES({WASABA_GAUGE, "up", ""})},
                                      {"q.#.*", "Each", WASABA_UNIT_FLOAT, WASABA_LINES({WASABA_GAUGE, "*", ""})}))
WASABA_METRICS(call)
WASABA_CHECKS(checks)
WASABA_METADATA(gathers)

int main(void) {
    static const struct {
        const char *name;
        bool fits;
    } names[] = {{"q.jobs.waiting", true}, {"q.a.b.c", true}, {"q.jobs", false}, {"q.jobs.vating", false}, {"q.a.b.c.d", false}, {"q..b.c", false}, {"other", false}};
    for (size_t index = 0; index < sizeof names / sizeof *names; index++) {
        wasaba_test("a sample that no graph has is a mistake with name and line");
        sampled = names[index].name;
        WASABA_CHECK(run(samples_a_name) == names[index].fits);
        WASABA_CHECK(names[index].fits || (wasaba_test_says(sampled) && wasaba_test_says("failed: suite.c:")));
    }

    wasaba_test("NaN is a mistake with name and line");
    WASABA_CHECK(!run(samples_nan) && wasaba_test_says("q.jobs.waiting") && wasaba_test_says("NaN") && wasaba_test_says("suite.c:"));

    wasaba_test("whole numbers stay whole and others are floats");
    WASABA_CHECK(run(samples_numbers));

    wasaba_test("settings have their defaults and types");
    wasaba_test_set("servers", "db:5432");
    wasaba_test_set("servers", "[::1]:1");
    WASABA_CHECK(run(reads_settings));

    wasaba_test("an undeclared setting is a mistake of the author");
    WASABA_CHECK(!run(reads_an_undeclared_setting) && wasaba_test_says("failed: suite.c:") && wasaba_test_says("`uri`, only: url, port"));

    wasaba_test("a missing setting is one of the operator, even if the plugin does not look");
    WASABA_CHECK(!run(reads_a_missing_setting) && wasaba_test_says("misconfigured: `optional` is not set"));

    wasaba_test("a failure without a word has one");
    WASABA_CHECK(!run(fails_without_a_word) && wasaba_test_says("failed: the plugin failed without saying why"));

    wasaba_test("a status that is not 2xx is an error that names the page, but not its query");
    wasaba_test_set("url", "http://a:81/x?key=private");
    wasaba_test_http("http://a:81/x?key=private", 404, "");
    WASABA_CHECK(!run(asks) && wasaba_test_says("failed: http://a:81/x answers with status 404") && !wasaba_test_says("private"));

    wasaba_test("a status that refuses the user is for the operator");
    wasaba_test_http("http://localhost/a", 401, "");
    WASABA_CHECK(!run(asks) && wasaba_test_says("unauthorized: "));

    wasaba_test("a server that asks to be left alone is left alone");
    wasaba_test_http("http://localhost/a", 503, "");
    wasaba_test_http_header("Retry-After", "90");
    WASABA_CHECK(!run(asks) && wasaba_test_says("unreachable: "));
    WASABA_CHECK(!run(is_busy) && wasaba_test_says("unreachable: later"));

    wasaba_test("an error says whom it could not reach");
    wasaba_test_http_unreachable("http://localhost/a", "connection refused");
    WASABA_CHECK(!run(asks) && wasaba_test_says("unreachable: http://localhost/a: connection refused"));

    wasaba_test("a redirect is followed, and what was meant for one server is not sent to another");
    wasaba_test_set("url", "http://a/d/x?q=/");
    wasaba_test_set("token", "hunter2");
    static const char *const steps[][2] = {{"http://a/d/x?q=/", "y"}, {"http://a/d/y", "/z"}, {"http://a/z", "//b/"}};
    for (size_t step = 0; step < 3; step++) {
        wasaba_test_http(steps[step][0], 302, "");
        wasaba_test_http_expect("x-token", "hunter2");
        wasaba_test_http_expect("cookie", "c");
        wasaba_test_http_header("Location", steps[step][1]);
    }
    wasaba_test_http("http://b/", 200, "there");
    WASABA_CHECK(run(follows));

    wasaba_test("secrets are sent in each kind of header");
    wasaba_test_set("token", "x-line: 1");
    wasaba_test_http("http://localhost/a", 200, "");
    wasaba_test_http_expect("x-token", "token x-line: 1");
    wasaba_test_http_expect("authorization", "Basic bWU6eC1saW5lOiAx");
    wasaba_test_http_expect("x-line", "1");
    WASABA_CHECK(run(sends_secrets));

    wasaba_test("a conversation has lines, and parts of a known length");
    wasaba_test_set("token", "hunter2");
    wasaba_test_tcp("db:1");
    wasaba_test_tcp_expect("AUTH hunter2\r\n");
    wasaba_test_tcp_send("+OK\r\n4\nab");
    wasaba_test_tcp_send("cdx");
    WASABA_CHECK(run(talks));

    wasaba_test("there is no growth at first and when a counter was reset");
    now[0] = 5, now[1] = 7;
    WASABA_CHECK(run(grows) && !has_grown);
    now[0] = 6;
    WASABA_CHECK(run(grows) && has_grown && grown[0] == 1 && grown[1] == 0);
    now[1] = 6;
    WASABA_CHECK(run(grows) && !has_grown);

    wasaba_test("what a call that fails has set is not kept");
    WASABA_CHECK(!run(keeps_and_fails));
    WASABA_CHECK(run(finds_nothing_kept));

    wasaba_test("a target that is down is zero and said once");
    WASABA_CHECK(run(says_whether_it_is_up) && wasaba_test_has("q.up.up", 1));
    is_down = true;
    kind = WASABA_UNREACHABLE;
    WASABA_CHECK(run(says_whether_it_is_up) && wasaba_test_has("q.up.up", 0));
    kind = WASABA_TIMEOUT;
    WASABA_CHECK(run(says_whether_it_is_up) && wasaba_test_has("q.up.up", 0));
    kind = WASABA_DENIED;
    WASABA_CHECK(!run(says_whether_it_is_up) && wasaba_test_says("denied: gone"));
    is_down = false;
    WASABA_CHECK(run(says_whether_it_is_up) && wasaba_test_has("q.up.up", 1));
    WASABA_CHECK(!strcmp(wasaba_test_logged(0), "warning: the target is down: gone") && !strcmp(wasaba_test_logged(1), "info: the target is up again") && !wasaba_test_logged(2));

    wasaba_test("JSON is read with its escapes and whole numbers");
    WASABA_CHECK(run(reads_json));

    wasaba_test("what is not JSON is refused");
    WASABA_CHECK(run(refuses_what_is_not_json));

    static const struct {
        char how;
        const char *path, *error;
    } needs[] = {
        {'n', "workers[0].busy", "the page: workers[0].busy is a boolean, not a number"},
        {'n', "", "the page is an object, not a number"},
        {'n', "jobs", "the page: jobs is an object, not a number"},
        {'n', "jobs.done", "the page: jobs.done is null, it must be a number"},
        {'n', "jobs.watiing", "the page: jobs.watiing is missing, did you mean jobs.waiting?"},
        {'n', "jobs.count", "the page: jobs.count is missing, jobs has waiting, done, lost, large"},
        {'n', "load", "the page: load is missing, it has jobs, workers"},
        {'n', "jobs.done.count", "the page: jobs.done is null, it must be an object"},
        {'n', "workers.busy", "the page: workers is an array, not an object"},
        {'n', "jobs[0]", "the page: jobs is an object, not an array"},
        {'n', "workers[1].busy", "the page: workers[1] is missing, workers has 1"},
        {'w', "jobs.waiting", "the page: jobs.waiting is 1.5, not a whole number"},
        {'w', "jobs.lost", "the page: jobs.lost is -3, below 0: read it as a number"},
        {'w', "jobs.large", "the page: jobs.large is 18446744073709551616, 2^64 or more"},
        {'w', "workers[0].name", "the page: workers[0].name is a text, not a whole number"},
        {'b', "jobs.waiting", "the page: jobs.waiting is a number, not a boolean"},
        {'t', "workers", "the page: workers is an array, not a text"},
        {'e', "jobs.waiting", "the page: jobs.waiting is a number, not an array or object"},
        {'i', "busy", "the page: workers[0].busy is a boolean, not a number"},
        {'i', "", "the page: workers[0] is an object, not a number"},
        {'0', "jobs.done", "there is no JSON to read `jobs.done` from, after the error: gone"},
    };
    for (size_t index = 0; index < sizeof needs / sizeof *needs; index++) {
        char expected[200];
        wasaba_test("a value that is not there fails the call with its path and what is there, even if the plugin does not look");
        how = needs[index].how;
        path = needs[index].path;
        WASABA_CHECK(!run(reads_what_is_needed));
        snprintf(expected, sizeof expected, "failed: suite.c:%d: %s", line, needs[index].error);
        if (!WASABA_CHECK(!strcmp(wasaba_test_error(), expected))) fprintf(stderr, "%s\n", expected);
    }

    wasaba_test("what may be absent or null is read if it is there");
    WASABA_CHECK(run(reads_what_may_be_there));
    WASABA_CHECK(!run(reads_another_type_than_may_be_there) && wasaba_test_says("the page: jobs is an object, not a number"));

    wasaba_test("a secret is not a text, and a text is not a secret");
    wasaba_test_set("token", "hunter2");
    WASABA_CHECK(!run(reads_a_secret_as_text) && wasaba_test_says("`token` is a secret: read it with wasaba_secret, in C++ with handle()"));
    WASABA_CHECK(!run(gets_a_secret_as_text) && wasaba_test_says("`token` is a secret"));
    WASABA_CHECK(!run(reads_a_text_as_secret) && wasaba_test_says("`url` is not a secret: read it with wasaba_text"));

    wasaba_test("what the plugin does not say that it reaches is said in the words of C");
    WASABA_CHECK(!run(connects_to_a_socket) && wasaba_test_says("to reach /run/a the plugin needs `.reaches = WASABA_REACH_UNIX` in WASABA_PLUGIN"));

    static const char *const meant[][2] = {
        {"q.jobs.watiing", "`q.jobs.watiing`, did you mean `q.jobs.waiting`?"},
        {"q.jobs.other", "`q.jobs.other`; the graph `q.jobs` has waiting"},
        {"p.a.b.c", "`p.a.b.c`, did you mean `q.#.*.*`?"},
        {"other", "`other`, they have q.jobs.waiting, q.up.up, q.#.*.*"},
    };
    for (size_t index = 0; index < sizeof meant / sizeof *meant; index++) {
        wasaba_test("a misspelt metric has the names that were meant");
        sampled = meant[index][0];
        WASABA_CHECK(!run(samples_a_name) && wasaba_test_says(meant[index][1]));
    }

    wasaba_test("a whole number is compared exactly");
    WASABA_CHECK(run(samples_numbers) && wasaba_test_has("q.jobs.waiting", 0.5) && wasaba_test_has_whole("q.jobs.waiting", UINT64_MAX));
    WASABA_CHECK(!wasaba_test_has_whole("q.jobs.waiting", UINT64_MAX - 1) && wasaba_test_has("q.jobs.waiting", 18446744073709551614.0));

    wasaba_test("a file is read whole or not at all");
    wasaba_test_file("/f", "abcdef");
    WASABA_CHECK(run(reads_files));

    wasaba_test("a persisting warning is written once a day");
    WASABA_CHECK(run(warns_twice) && !strcmp(wasaba_test_logged(0), "warning: the disk is 90 % full") && !wasaba_test_logged(1));

    wasaba_test("a target that failed is a problem, not a failure");
    WASABA_CHECK(run(has_two_targets) && wasaba_test_problems() == 1);

    wasaba_test("a segment has no character that Mackerel refuses");
    WASABA_CHECK(run(segments));

    wasaba_test("reports and documents are returned");
    WASABA_CHECK(wasaba_test_check() && wasaba_test_count() == 2);
    WASABA_CHECK(!strcmp(wasaba_test_result(0), "ok: 3 there") && !strcmp(wasaba_test_result(1), "else: critical: gone"));
    WASABA_CHECK(wasaba_test_gather() && !strcmp(wasaba_test_result(0), ": {\"a\":1}"));

    return wasaba_test_end();
}
