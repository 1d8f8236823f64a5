/* A plugin that misbehaves on request: its setting `do` says how. */
#include <assert.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "wasaba.h"

static const wasaba_setting_t wrong = {WASABA_TEXT, "do", "nothing", "what to do wrong"};
static const wasaba_setting_t url = {WASABA_URL, "url", "http://localhost/", "a page with a number"};
static const wasaba_setting_t token = {WASABA_SECRET, "token", .help = "a secret that must not be shown"};
/* Not declared. */
static const wasaba_setting_t uri = {WASABA_URL, "uri"};

static volatile unsigned turns;

static bool collect(void) {
    const char *what = wasaba_text(&wrong);
    if (!strcmp(what, "loop"))
        for (;;) turns++;
    if (!strcmp(what, "memory"))
        for (;;) memset(wasaba_alloc(1 << 20), 1, 1 << 20);
    if (!strcmp(what, "raise")) return wasaba_bug("on purpose");
    if (!strcmp(what, "assert")) assert(turns > 0);
    if (!strcmp(what, "flood"))
        for (int line = 0; line < 1000; line++) wasaba_log_info("line %d", line);
    /* The compiler takes nothing but numbers for a value. */
    if (!strcmp(what, "wrong-type") || !strcmp(what, "nan")) wasaba_sample(NAN, "naughty.nan");
    if (!strcmp(what, "wrong-setting")) wasaba_text(&uri);
    if (!strcmp(what, "wrong-name")) wasaba_sample(1, "other.waiting");
    if (!strcmp(what, "wrong-json")) wasaba_json_whole(wasaba_json_read("{\"jobs\":[1.5]}", 14, "the page"), "jobs[%d]", 0);
    if (!strcmp(what, "wrong-kind")) wasaba_text(&token);
    if (!strcmp(what, "print")) {
        const wasaba_secret_t *secret = wasaba_secret(&token);
        printf("on standard output %p\n", (const void *)secret);
        fprintf(stderr, "on standard error %.4s\n", secret ? (const char *)secret : "");
        fflush(stdout);
    }
    if (!strcmp(what, "large")) {
        const wasaba_response_t *page = wasaba_http_ok(wasaba_http_get(wasaba_text(&url)));
        if (!page) return false;
        wasaba_sample(strtoull(page->body, NULL, 10), "naughty.counted.large");
        return true;
    }
    if (strcmp(what, "none")) wasaba_sample(1, "naughty.good");
    return true;
}

WASABA_PLUGIN(.name = "naughty", .version = "0.1.0", .summary = "misbehaves on request", .reaches = WASABA_REACH_HTTP,
              .settings = WASABA_SETTINGS(&wrong, &url, &token),
              .graphs = WASABA_GRAPHS({"naughty", "Naughty", WASABA_UNIT_FLOAT, WASABA_LINES({WASABA_GAUGE, "*", "%1"})},
                                      {"naughty.counted", "Counted", WASABA_UNIT_INTEGER, WASABA_LINES({WASABA_DELTA, "large", "Large"})}))
WASABA_METRICS(collect)
