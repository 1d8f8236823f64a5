// Does not compile, with one error: a sample of a text.
#include "wasaba.hpp"

void collect() { wasaba::sample("q.jobs.waiting", std::string("3")); }
