/* Tests that do not hold, for what they print: the Makefile compares it with failing.txt. */
#include "wasaba_test.h"

static bool fails;

static bool collect(void) {
    if (fails) return wasaba_failed("on purpose");
    wasaba_sample(18446744073709551615u, "q.jobs.done");
    wasaba_sample(0.1, "q.jobs.waiting");
    return true;
}

WASABA_PLUGIN(.name = "failing", .version = "0", .summary = "",
              .graphs = WASABA_GRAPHS({"q.jobs", "Jobs", WASABA_UNIT_INTEGER,
                                       WASABA_LINES({WASABA_GAUGE, "done", ""}, {WASABA_GAUGE, "waiting", ""})}))
WASABA_METRICS(collect)

int main(void) {
    wasaba_test("one");
    WASABA_CHECK(wasaba_test_collect());
    WASABA_CHECK(wasaba_test_has_whole("q.jobs.done", 1));
    WASABA_CHECK(wasaba_test_has("q.jobs.waiting", 1));
    WASABA_CHECK(wasaba_test_has("q.jobs.lost", 1));
    WASABA_CHECK(wasaba_test_count() == 3);
    fails = true;
    WASABA_CHECK(wasaba_test_collect());
    WASABA_CHECK(wasaba_test_has("q.jobs.done", 1));
    WASABA_CHECK(wasaba_test_says("by chance"));
    return wasaba_test_end() ? 0 : 1;
}
