// The tests of wasaba.hpp: each begins with the sentence that it tests.
#include "wasaba.hpp"

#include <cstdio>
#include <cstring>

#include "wasaba_test.h"

using wasaba::setting;

static const auto url = setting::url("url").initial("http://localhost/a");
static const auto token = setting::secret("token");
static const auto undeclared = setting::text("other");

static const std::string text =
    R"({"jobs":{"waiting":3,"load":1.5,"done":null},"workers":[{"name":"a","busy":true},{"name":"b","busy":false}]})";

static bool (*does)();

static bool collect() { return does(); }

static bool run(bool (*what)()) {
    does = what;
    return wasaba_test_collect();
}

// The line of what fails.
static int line;
#define HERE(word) (line = __LINE__, word)

static wasaba::json page() { return wasaba_json_read(text.data(), text.size(), "the page"); }

static bool has_failed_at(const char *what) {
    const std::string expected = "suite.cpp:" + std::to_string(line) + ": " + what;
    if (wasaba_test_says(expected.c_str())) return true;
    std::fprintf(stderr, "%s, not %s\n", expected.c_str(), wasaba_test_error());
    return false;
}

static bool asks() {
    const auto found = wasaba::http::get(url.text()).header("x-token", token.handle()).header("y", token.handle()).json();
    return found && found.whole("") == 1;
}

WASABA_PLUGIN_CPP(wasaba::plugin{"suite", "0", ""}
                      .reaches(WASABA_REACH_HTTP)
                      .settings({&url, &token})
                      .graph("q.jobs", "Jobs", WASABA_UNIT_INTEGER, {wasaba::gauge("waiting", "")}))
WASABA_METRICS_CPP(collect)

int main() {
    wasaba_test("what fails has the place of the caller, in every function");
    static bool (*const fails[])() = {
        [] { return wasaba::sample(HERE("q.jobs.other"), 1), true; },
        [] { return undeclared.text(wasaba::place{__FILE__, HERE(__LINE__)}).empty(); },
        [] { return HERE(undeclared).text().empty(); },
        [] { return HERE(undeclared).integer() == 0; },
        [] { return HERE(undeclared).all().empty(); },
        [] { return !HERE(undeclared).handle(); },
        [] { return HERE(token).text().empty(); },
        [] { return page().number(HERE("jobs")) == 0; },
        [] { return page().whole(HERE("jobs.load")) == 0; },
        [] { return page().boolean(HERE("jobs.waiting")); },
        [] { return page().text(HERE("jobs.waiting")).empty(); },
        [] { return page().maybe_text(HERE("jobs.waiting")).has_value(); },
        [] { return page().at(HERE("jobs.lost"))->number == 0; },
        [] { return wasaba::http::response(nullptr).status(wasaba::place{__FILE__, HERE(__LINE__)}) == 0; },
        [] { return HERE(wasaba::http::response(nullptr)).body().empty(); },
    };
    for (const auto what : fails) WASABA_CHECK(!run(what) && has_failed_at(""));

    wasaba_test("reading through nothing fails the call, with the place where it was got");
    const auto reads_a_missing_value = [] { return page().at(HERE("jobs.waitng"))->number == 0; };
    WASABA_CHECK(!run(reads_a_missing_value) && has_failed_at("the page: jobs.waitng is missing, did you mean jobs.waiting?"));
    const auto reads_a_null = [] { return page().at(HERE("jobs.done"))->text != nullptr; };
    WASABA_CHECK(!run(reads_a_null) && has_failed_at("the page: jobs.done is null, it must be a value"));
    const auto reads_nothing = [] {
        wasaba_failed("before");
        const wasaba::json nothing = HERE(nullptr);
        return nothing->is_true;
    };
    WASABA_CHECK(!run(reads_nothing) && has_failed_at("there is no JSON to read `` from, after the error: before"));

    wasaba_test("what may be absent or null is an optional");
    const auto reads_optionals = [] {
        const auto json = page();
        WASABA_CHECK(json.maybe_number("jobs.load") == 1.5 && json.maybe_whole("jobs.waiting") == 3u && json.maybe_text("workers[1].name") == "b");
        WASABA_CHECK(json.maybe_boolean("workers[0].busy") == true && json.maybe_boolean("workers[1].busy") == false);
        WASABA_CHECK(!json.maybe_number("jobs.done") && !json.maybe_whole("jobs.none") && !json.maybe_boolean("none.none") && !json.maybe_text("workers[2]"));
        WASABA_CHECK(!json.at("jobs.done") && json.at("jobs.load")->number == 1.5 && json.boolean("workers[0].busy"));
        std::string names;
        for (const auto worker : json.each("workers")) names += worker.text("name");
        WASABA_CHECK(names == "ab");
        return true;
    };
    WASABA_CHECK(run(reads_optionals));

    wasaba_test("a secret is a header without a prefix");
    wasaba_test_set("token", "hunter2");
    wasaba_test_http("http://localhost/a", 200, "1");
    wasaba_test_http_expect("x-token", "hunter2");
    WASABA_CHECK(run(asks));

    wasaba_test("samples are numbers of every type");
    WASABA_CHECK(run([] { return wasaba::sample("q.jobs.waiting", 3), wasaba::sample("q.jobs.waiting", 0.5f), wasaba::sample("q.jobs.waiting", true), true; }));
    WASABA_CHECK(wasaba_test_has_whole("q.jobs.waiting", 3) && wasaba_test_has("q.jobs.waiting", 0.5) && wasaba_test_has_whole("q.jobs.waiting", 1));

    return wasaba_test_end();
}
