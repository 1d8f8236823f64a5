// A plugin that uses everything in the contract once, in C++: each export, each function of each capability.
#include "wasaba.hpp"

using wasaba::setting;

static const auto url = setting::url("url").required().help("a page to get");
static const auto host = setting::host("host").initial("localhost").help("an echo server");
static const auto port = setting::port("port").of(host).initial("7").help("an echo server");
static const auto endpoint = setting::endpoint("endpoint").repeatable().help("servers that are not there");
static const auto echo_socket = setting::unix_socket("socket").required().help("another echo server");
static const auto file = setting::file("file").required().help("a file to read");
static const auto text = setting::text("text").initial("text").repeatable().help("any text");
static const auto token = setting::secret("token").help("a secret");
static const auto integer = setting::integer("integer").initial("-1").help("a whole number");
static const auto number = setting::number("number").initial("0.5").help("a number");
static const auto boolean = setting::boolean("boolean").initial("true").help("yes or no");
static const auto patience = setting::duration("patience").initial("5s").help("how long to wait");
static const auto tls_skip_verify = setting::tls_skip_verify("tls-skip-verify").initial("false").help("accept any certificate");
static const auto sslmode = setting::tls_mode("sslmode").initial("verify-full").aliases("verify-full=full").help("how TLS is used");

// The size of the file, which is read whole and in parts.
static std::optional<std::uint64_t> file_size() {
    const auto path = file.text();
    std::size_t length;
    const char *whole = wasaba_file_read(path.c_str(), 1 << 20, &length);
    wasaba_file_t *opened = whole ? wasaba_file_open(path.c_str()) : nullptr;
    wasaba_stat_t stat;
    wasaba_bytes_t first;
    if (!opened || !wasaba_file_stat(opened, &stat) || !wasaba_file_read_at(opened, 0, 1, &first)) return std::nullopt;
    wasaba_file_close(opened);
    const std::string_view part(reinterpret_cast<const char *>(first.bytes), first.size);
    if (stat.size == length && stat.id && std::string_view(whole, length).substr(0, part.size()) == part) return stat.size;
    wasaba_failed("a part of the file differs from the whole");
    return std::nullopt;
}

// How many bytes an echo server sends back.
static std::optional<std::size_t> echo(wasaba::connection connection) {
    if (!connection) return std::nullopt;
    connection.set_timeout(5000);
    if (!connection.is_local()) {
        wasaba_failed("the echo server is not on this machine");
        return std::nullopt;
    }
    if (!connection.write("everything")) return std::nullopt;
    if (const auto secret = token.handle(); secret && !connection.write("<", secret, ">")) return std::nullopt;
    if (!connection.finish()) return std::nullopt;
    for (std::size_t echoed = 0;;) {
        const auto part = connection.read(4);
        if (!part) return std::nullopt;
        if (part->empty()) return echoed;
        echoed += part->size();
    }
}

// How often the plugin was called.
static std::optional<unsigned char> count() {
    const auto before = wasaba::kv::get("calls");
    auto calls = static_cast<unsigned char>(before && !before->empty() ? before->front() : 0);
    if (calls < 255) ++calls;
    const std::string_view now(reinterpret_cast<const char *>(&calls), 1);
    if (!wasaba::kv::set("calls", now) || !wasaba::kv::set("gone", "soon")) return std::nullopt;
    wasaba::kv::remove("gone");
    if (!wasaba::kv::set("calls.last", now, 60000)) return std::nullopt;
    std::string keys;
    for (auto key = wasaba_kv_keys("c"); *key; key++) keys += std::string(*key) + " ";
    if (keys == "calls calls.last ") return calls;
    wasaba_failed("there are unexpected keys: %s", keys.c_str());
    return std::nullopt;
}

static bool collect() {
    wasaba_log_debug("debug");
    wasaba_log_info("info");
    wasaba_log_warning("warning");
    const auto secret = token.handle();
    auto request = wasaba::http::get(url.text());
    request.header("accept", "*/*").header("x-token", "token ", secret).basic_auth("me", secret).header_lines(secret).follow(1);
    if (!request.has_header("Accept")) return wasaba_failed("the request has no header");
    const auto page = request.send();
    if (!page) return false;
    auto stream = wasaba::connection::to(host.text(), port.port());
    if (!stream) return false;
    if (const auto other = wasaba::connection::to(host.text(), port.port(), 5000); !other) return false;
    auto unix_stream = wasaba::connection::to_unix(echo_socket.text());
    const auto size = unix_stream ? file_size() : std::nullopt;
    const auto calls = size ? count() : std::nullopt;
    if (!calls) return false;
    std::uint64_t samples;
    const auto minute = wasaba_call_minute();
    if (wasaba_call_remaining_ms() > 60000 || minute % 60 || !wasaba_call_limit("samples", &samples) || samples != 1000 ||
        !*wasaba_call_agent_version() || !wasaba_call_has("tcp") || wasaba_call_has("everything"))
        return wasaba_failed("the call does not know what it is");
    const auto echoed = echo(std::move(stream));
    const auto echoed_by_unix = echoed ? echo(std::move(unix_stream)) : std::nullopt;
    if (!echoed_by_unix) return false;
    wasaba::sample("everything.done.http", page.status());
    wasaba::sample("everything.done.tcp", *echoed);
    wasaba::sample("everything.done.unix", *echoed_by_unix);
    wasaba::sample("everything.done.file", *size);
    wasaba::sample("everything.done.calls", *calls).label("kind", "calls");
    wasaba::sample("everything.done.then", *calls).at(minute - 60);
    for (const std::string kind : {"minute", "second", "wraps", "delta"}) wasaba::sample("everything.rates.a." + kind, *calls);
    for (const auto &server : endpoint.all()) {
        const char *name;
        std::uint16_t at;
        if (!wasaba_endpoint(server.c_str(), &name, &at)) return false;
        if (!wasaba::connection::to(name, at)) wasaba_problem("%s", server.c_str());
    }
    return true;
}

static bool check() {
    const auto answer = wasaba::http::request("HEAD", url.text()).body("").send();
    if (!answer) return false;
    if (answer.status() == 200)
        wasaba_ok("", "the page is there");
    else if (answer.status() < 500)
        wasaba_warning("", "the page answers %u", answer.status());
    else
        wasaba_critical("", "the page answers %u", answer.status());
    wasaba_unknown("else", "nothing is known of it");
    return true;
}

// Never called, but it links the functions.
static bool login() {
    const auto secret = token.handle();
    if (!secret) return wasaba_misconfigured("`token` is not set");
    auto connection = wasaba::connection::to(host.text(), port.port());
    const char *const protocols[] = {"h2", nullptr};
    const wasaba_tls_options_t options = {"localhost", protocols};
    wasaba_bytes_t proof, signature;
    const wasaba_bytes_t salt = {reinterpret_cast<const std::uint8_t *>("salt"), 4};
    if (!connection || !connection.start_tls(&options)) return false;
    if (!wasaba_crypto_scram_sha256(secret.handle, salt, 4096, "", &proof, &signature)) return false;
    const char *md5 = wasaba_crypto_postgres_md5(secret.handle, "me", signature), *revealed = secret.reveal();
    if (!md5 || !revealed) return false;
    wasaba_document("", "\"%s%s\"", revealed, md5);
    return true;
}

static bool gather() {
    if (text.text() == "never") return login();
    wasaba_document("", "{\"texts\":%zu}", text.all().size());
    wasaba_document("all-more", "[]");
    return true;
}

WASABA_PLUGIN_CPP(wasaba::plugin{"everything", "0.1.0", "uses everything in the contract once"}
                      .reaches(WASABA_REACH_HTTP | WASABA_REACH_TCP | WASABA_REACH_UNIX | WASABA_REACH_FILE)
                      .attribute("license", "Apache-2.0")
                      .attribute("homepage", "https://example.com/everything")
                      .attribute("interval-seconds", "60")
                      .attribute("timeout-seconds", "10")
                      .attribute("agent", "0.1.0")
                      .settings({&url, &host, &port, &endpoint, &echo_socket, &file, &text, &token, &integer, &number, &boolean, &patience,
                                 &tls_skip_verify, &sslmode})
                      .graph("everything.done", "Everything", WASABA_UNIT_INTEGER,
                             {wasaba::gauge("http", "Status of the page"), wasaba::gauge("tcp", "Echoed bytes").stacked(),
                              wasaba::gauge("unix", "Echoed bytes").stacked(), wasaba::gauge("file", "Length of the file"),
                              wasaba::gauge("calls", "Calls so far"), wasaba::gauge("then", "A minute ago")})
                      .graph("everything.rates.#", "Rates", WASABA_UNIT_BYTES_PER_SECOND,
                             {wasaba::per_minute("minute", "Per minute"), wasaba::per_minute_32("wraps", "Per minute"),
                              wasaba::delta("delta", "Since the last call"), wasaba::per_second("*", "Per second").scale(8)}))
WASABA_METRICS_CPP(collect)
WASABA_CHECKS_CPP(check)
WASABA_METADATA_CPP(gather)
