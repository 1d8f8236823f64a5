/* A host for native tests: it has canned answers, and calls what the plugin declares. Compile it, wasaba.c and the plugin's source with the
 * machine's own compiler, without gen/full_plugin.c:
 *
 *     int main(void) {
 *         wasaba_test("the page gives the jobs");
 *         wasaba_test_http("http://localhost:7070/stats", 200, "{\"jobs\":3}");
 *         WASABA_CHECK(wasaba_test_collect());
 *         WASABA_CHECK(wasaba_test_has("queue.jobs.waiting", 3));
 *         return wasaba_test_end();
 *     }
 *
 * It checks no grants and computes no rates and no proofs: `wasaba plugin test` does, with the component itself. */
#ifndef WASABA_TEST_H
#define WASABA_TEST_H

#include "wasaba.h"

#ifdef __cplusplus
extern "C" {
#endif

/* Prints the place of what does not hold, with the call's error, once, and with the value that a sample has instead. */
#define WASABA_CHECK(condition) wasaba_test_that(__FILE__, __LINE__, condition, #condition)
bool wasaba_test_that(const char *file, int line, bool holds, const char *condition);

/* Begins a test, without answers, settings and kept values. */
void wasaba_test(const char *name);
/* Prints the result, and returns the status to exit with. */
int wasaba_test_end(void);

/* Adds a value of a setting, or a secret. */
void wasaba_test_set(const char *key, const char *value);

/* Answers GET requests for `url`. Several answers to the same request are used in order, and the last one is repeated. One that is never
 * requested fails the test. */
void wasaba_test_http(const char *url, unsigned status, const char *body);
void wasaba_test_http_unreachable(const char *url, const char *why);
/* Of the last answer: another method; a header that the request must have; a header. */
void wasaba_test_http_method(const char *method);
void wasaba_test_http_expect(const char *name, const char *value);
void wasaba_test_http_header(const char *name, const char *value);

/* A server at `db:5432` or `unix:/run/db.sock`, for one connection: what it waits for, and what it says then. */
void wasaba_test_tcp(const char *address);
void wasaba_test_tcp_unreachable(const char *address, const char *why);
void wasaba_test_tcp_expect(const char *text);
void wasaba_test_tcp_send(const char *text);

void wasaba_test_file(const char *path, const char *content);

/* Call the plugin once. Each call is a minute later than the one before. */
bool wasaba_test_collect(void);
bool wasaba_test_check(void);
bool wasaba_test_gather(void);

/* The error of the last call, `unreachable: connection refused`; empty if there was none. */
const char *wasaba_test_error(void);
/* Whether it has this text. */
bool wasaba_test_says(const char *text);
/* How many samples, reports or documents the last call returned; and how many problems. */
size_t wasaba_test_count(void);
size_t wasaba_test_problems(void);
/* Whether it returned this sample; and exactly, as a whole number. */
bool wasaba_test_has(const char *name, double value);
bool wasaba_test_has_whole(const char *name, uint64_t value);
/* A report, `warning: text` or `name: warning: text`; or a document, `name: json`. */
const char *wasaba_test_result(size_t index);
/* A line that was logged, `warning: the disk is full`; NULL behind the last. */
const char *wasaba_test_logged(size_t index);

#ifdef __cplusplus
}
#endif
#endif
