// Plugins for the wasaba agent in C++17 and newer, thinly over wasaba.h, which documents all of it. There are no exceptions in a component:
// what fails returns an empty optional, a null pointer or false, and `return false` passes the error on.
//
//     static const wasaba::setting url = wasaba::setting::url("url").initial("http://localhost:7070/stats").help("page as JSON");
//
//     static bool collect() {
//         const auto page = wasaba::http::get(url.text()).json();
//         if (!page) return false;
//         wasaba::sample("queue.jobs.waiting", page.whole("jobs"));
//         return true;
//     }
//
//     WASABA_PLUGIN_CPP(wasaba::plugin{"queue", "0.1.0", "jobs of the queue"}
//                           .reaches(WASABA_REACH_HTTP)
//                           .settings({&url})
//                           .graph("queue.jobs", "Jobs", WASABA_UNIT_INTEGER, {wasaba::gauge("waiting", "Waiting")}))
//     WASABA_METRICS_CPP(collect)
#ifndef WASABA_HPP
#define WASABA_HPP

#include <cstdint>
#include <initializer_list>
#include <optional>
#include <string>
#include <string_view>
#include <type_traits>
#include <utility>
#include <vector>

#include "wasaba.h"
// In C they are macros with the place; here the place is a parameter.
#undef wasaba_text
#undef wasaba_get
#undef wasaba_all
#undef wasaba_secret
#undef wasaba_integer
#undef wasaba_number
#undef wasaba_boolean
#undef wasaba_port
#undef wasaba_duration_ms
#undef wasaba_sample

namespace wasaba {

// Where something is called, for messages. A type of its own, so that reading a setting differs from declaring one of the same name.
struct place {
    const char *file;
    int line;
    // A function of its own: in a default argument that is an expression, compilers differ in whose place it is.
    static constexpr place here(const char *file = __builtin_FILE(), int line = __builtin_LINE()) { return {file, line}; }
};

#define WASABA_PLACE wasaba::place where = wasaba::place::here()

// A secret, as a handle, or none.
class secret {
public:
    secret(const wasaba_secret_t *handle = nullptr) : handle(handle) {}
    explicit operator bool() const { return handle; }
    std::size_t length() const { return wasaba_secret_length(handle); }
    const char *reveal() const { return wasaba_secret_reveal(handle); }
    const wasaba_secret_t *handle;
};

class setting {
public:
    static setting text(const char *key) { return {WASABA_TEXT, key}; }
    static setting secret(const char *key) { return {WASABA_SECRET, key}; }
    static setting integer(const char *key) { return {WASABA_INTEGER, key}; }
    static setting number(const char *key) { return {WASABA_NUMBER, key}; }
    static setting boolean(const char *key) { return {WASABA_BOOLEAN, key}; }
    static setting duration(const char *key) { return {WASABA_DURATION, key}; }
    static setting url(const char *key) { return {WASABA_URL, key}; }
    static setting endpoint(const char *key) { return {WASABA_ENDPOINT, key}; }
    static setting host(const char *key) { return {WASABA_HOST, key}; }
    static setting port(const char *key) { return {WASABA_PORT, key}; }
    static setting unix_socket(const char *key) { return {WASABA_UNIX_SOCKET, key}; }
    static setting file(const char *key) { return {WASABA_FILE, key}; }
    static setting tls_skip_verify(const char *key) { return {WASABA_TLS_SKIP_VERIFY, key}; }
    static setting tls_mode(const char *key) { return {WASABA_TLS_MODE, key}; }

    setting initial(const char *value) const { return with(&wasaba_setting_t::initial, value); }
    setting help(const char *value) const { return with(&wasaba_setting_t::help, value); }
    setting required() const { return with(&wasaba_setting_t::required, true); }
    setting repeatable() const { return with(&wasaba_setting_t::repeatable, true); }
    // Of a port: its host, a variable that outlives it.
    setting of(const setting &host) const { return with(&wasaba_setting_t::host, &host.declared); }
    setting aliases(const char *words) const { return with(&wasaba_setting_t::aliases, words); }

    // The value, which is required or has a default.
    std::string text(WASABA_PLACE) const { return wasaba_text_at(where.file, where.line, &declared); }
    std::optional<std::string> get(WASABA_PLACE) const {
        const char *value = wasaba_get_at(where.file, where.line, &declared);
        return value ? std::optional<std::string>(value) : std::nullopt;
    }
    std::vector<std::string> all(WASABA_PLACE) const {
        std::vector<std::string> values;
        for (auto value = wasaba_all_at(where.file, where.line, &declared); *value; value++) values.emplace_back(*value);
        return values;
    }
    wasaba::secret handle(WASABA_PLACE) const { return wasaba_secret_at(where.file, where.line, &declared); }
    std::int64_t integer(WASABA_PLACE) const { return wasaba_integer_at(where.file, where.line, &declared); }
    double number(WASABA_PLACE) const { return wasaba_number_at(where.file, where.line, &declared); }
    bool boolean(WASABA_PLACE) const { return wasaba_boolean_at(where.file, where.line, &declared); }
    std::uint16_t port(WASABA_PLACE) const { return static_cast<std::uint16_t>(wasaba_integer_at(where.file, where.line, &declared)); }
    std::uint64_t duration_ms(WASABA_PLACE) const { return wasaba_duration_ms_at(where.file, where.line, &declared); }

    const wasaba_setting_t *c() const { return &declared; }

private:
    setting(wasaba_setting_kind_t kind, const char *key) : declared{kind, key, nullptr, "", false, false, nullptr, nullptr} {}
    template <class T, class V> setting with(T wasaba_setting_t::*field, V value) const {
        setting changed = *this;
        changed.declared.*field = value;
        return changed;
    }
    wasaba_setting_t declared;
};

// A line of a graph.
class metric {
public:
    metric(wasaba_reading_t reading, const char *name, const char *label) : c{reading, name, label, false, 0} {}
    metric stacked() const {
        metric changed = *this;
        changed.c.stacked = true;
        return changed;
    }
    metric scale(double factor) const {
        metric changed = *this;
        changed.c.scale = factor;
        return changed;
    }
    wasaba_metric_t c;
};

inline metric gauge(const char *name, const char *label) { return {WASABA_GAUGE, name, label}; }
inline metric delta(const char *name, const char *label) { return {WASABA_DELTA, name, label}; }
inline metric per_minute(const char *name, const char *label) { return {WASABA_PER_MINUTE, name, label}; }
inline metric per_second(const char *name, const char *label) { return {WASABA_PER_SECOND, name, label}; }
inline metric per_minute_32(const char *name, const char *label) { return {WASABA_PER_MINUTE_32, name, label}; }

// The description. Its texts must outlive it: literals do.
class plugin {
public:
    plugin(const char *name, const char *version, const char *summary) : name(name), version(version), summary(summary) {}
    plugin &&reaches(unsigned what) && { return reach = what, std::move(*this); }
    plugin &&attribute(const char *key, const char *value) && { return attributes.push_back({key, value}), std::move(*this); }
    plugin &&settings(std::initializer_list<const setting *> list) && {
        for (auto each : list) declared.push_back(each->c());
        return std::move(*this);
    }
    plugin &&graph(const char *name, const char *label, wasaba_unit_t unit, std::initializer_list<metric> metrics) && {
        // Graphs last as long as the plugin: as long as the instance.
        auto lines = new std::vector<wasaba_metric_t>;
        for (auto &metric : metrics) lines->push_back(metric.c);
        lines->push_back({});
        graphs.push_back({name, label, unit, lines->data()});
        return std::move(*this);
    }
    // What wasaba.h has; its lists are those of this object.
    wasaba_plugin_t c() {
        declared.push_back(nullptr);
        graphs.push_back({});
        attributes.push_back({});
        return {name, version, summary, reach, declared.data(), graphs.data(), attributes.data(), nullptr};
    }

private:
    const char *name, *version, *summary;
    unsigned reach = 0;
    std::vector<const wasaba_setting_t *> declared;
    std::vector<wasaba_graph_t> graphs;
    std::vector<wasaba_attribute_t> attributes;
};

template <class T> wasaba_value_t value(T number) {
    static_assert(std::is_arithmetic_v<T>, "a sample's value is a number");
    if constexpr (std::is_floating_point_v<T>)
        return wasaba_float(number);
    else if constexpr (std::is_signed_v<T>)
        return wasaba_signed(number);
    else if constexpr (std::is_arithmetic_v<T>)
        return wasaba_unsigned(number);
    else
        return {};
}

// A sample, with the full name of its metric: the graph's name, a dot, the metric's name. Whole numbers stay exact.
class sample {
public:
    template <class T> sample(const std::string &name, T number, WASABA_PLACE) : c(wasaba_add_sample(where.file, where.line, value(number), "%s", name.c_str())) {}
    sample &at(std::uint64_t unix_seconds) { return c->unix_seconds = unix_seconds, *this; }
    sample &of_host(const std::string &custom_identifier) { return c->host = wasaba_printf("%s", custom_identifier.c_str()), *this; }
    sample &label(const std::string &name, const std::string &text) { return wasaba_label(c, name.c_str(), text.c_str()), *this; }

private:
    wasaba_sample_t *c;
};

inline std::string segment(const std::string &text) { return wasaba_segment(text.c_str()); }

// JSON, or nothing. It and its parts live until the call ends. A path is `jobs.waiting`, `workers[0].name`, or "" for the value itself.
class json {
public:
    json(const wasaba_json_t *c = nullptr, WASABA_PLACE) : c(c), where(where) {}
    explicit operator bool() const { return c; }
    // What must be there: otherwise the call fails, with file and line, and it is 0, false or empty.
    double number(const std::string &path, WASABA_PLACE) const { return wasaba_json_number_at(where.file, where.line, c, "%s", path.c_str()); }
    std::uint64_t whole(const std::string &path, WASABA_PLACE) const { return wasaba_json_whole_at(where.file, where.line, c, "%s", path.c_str()); }
    bool boolean(const std::string &path, WASABA_PLACE) const { return wasaba_json_boolean_at(where.file, where.line, c, "%s", path.c_str()); }
    std::string text(const std::string &path, WASABA_PLACE) const { return wasaba_json_text_at(where.file, where.line, c, "%s", path.c_str()); }
    // What may be absent or null. One of another type fails the call.
    std::optional<double> maybe_number(const std::string &path, WASABA_PLACE) const {
        double number;
        return wasaba_json_maybe_number_at(where.file, where.line, c, &number, "%s", path.c_str()) ? std::optional(number) : std::nullopt;
    }
    std::optional<std::uint64_t> maybe_whole(const std::string &path, WASABA_PLACE) const {
        std::uint64_t whole;
        return wasaba_json_maybe_whole_at(where.file, where.line, c, &whole, "%s", path.c_str()) ? std::optional(whole) : std::nullopt;
    }
    std::optional<bool> maybe_boolean(const std::string &path, WASABA_PLACE) const {
        bool is_true;
        return wasaba_json_maybe_boolean_at(where.file, where.line, c, &is_true, "%s", path.c_str()) ? std::optional(is_true) : std::nullopt;
    }
    std::optional<std::string> maybe_text(const std::string &path, WASABA_PLACE) const {
        const char *text = wasaba_json_maybe_text_at(where.file, where.line, c, "%s", path.c_str());
        return text ? std::optional<std::string>(text) : std::nullopt;
    }
    // A value of any type; nothing if it is absent or null.
    json at(const std::string &path, WASABA_PLACE) const {
        json found(wasaba_json_at(c, "%s", path.c_str()), where);
        if (!found) found.from = c, found.path = wasaba_printf("%s", path.c_str());
        return found;
    }
    std::string key() const { return c && c->key ? c->key : ""; }
    // Of nothing: the call fails, with the place where it was got, and a null is read.
    const wasaba_json_t *operator->() const { return c ? c : wasaba_json_missing_at(where.file, where.line, from, path); }

    class iterator {
    public:
        iterator(const wasaba_json_t *c) : c(c) {}
        json operator*() const { return json(c); }
        iterator &operator++() { return c = c->next, *this; }
        bool operator!=(const iterator &other) const { return c != other.c; }

    private:
        const wasaba_json_t *c;
    };
    struct range {
        const wasaba_json_t *first;
        iterator begin() const { return first; }
        iterator end() const { return nullptr; }
    };
    // The values of an array or object that must be there.
    range each(const std::string &path, WASABA_PLACE) const { return {wasaba_json_first_at(where.file, where.line, c, "%s", path.c_str())}; }

private:
    const wasaba_json_t *c;
    // Where it was got, and of what, if it is nothing.
    place where;
    const wasaba_json_t *from = nullptr;
    const char *path = "";
};

namespace http {

class response {
public:
    response(const wasaba_response_t *c) : c(c) {}
    explicit operator bool() const { return c; }
    // Of no response: the call fails, with file and line.
    unsigned status(WASABA_PLACE) const { return is_there(where) ? c->status : 0; }
    std::string_view body(WASABA_PLACE) const { return is_there(where) ? std::string_view(c->body, c->size) : std::string_view(); }
    std::optional<std::string> header(const std::string &name, WASABA_PLACE) const {
        const char *value = is_there(where) ? wasaba_response_header(c, name.c_str()) : nullptr;
        return value ? std::optional<std::string>(value) : std::nullopt;
    }

private:
    bool is_there(place where) const {
        if (c) return true;
        const wasaba_error_t *error = wasaba_error();
        return wasaba_bug_at(where.file, where.line, "there is no response to read%s%s", error ? ", after the error: " : "", error ? error->message : "");
    }
    const wasaba_response_t *c;
};

class request {
public:
    request(const char *method, const std::string &url) : c(wasaba_http_request(method, url.c_str())) {}
    request &header(const std::string &name, const std::string &value) { return wasaba_http_header(c, name.c_str(), value.c_str()), *this; }
    // A secret that is not set sets no header.
    request &header(const std::string &name, const std::string &prefix, const secret &value) {
        return wasaba_http_header_secret(c, name.c_str(), prefix.c_str(), value.handle), *this;
    }
    request &header(const std::string &name, const secret &value) { return header(name, "", value); }
    request &basic_auth(const std::string &user, const secret &password) { return wasaba_http_basic_auth(c, user.c_str(), password.handle), *this; }
    request &header_lines(const secret &lines) { return wasaba_http_header_lines(c, lines.handle), *this; }
    request &body(std::string_view bytes) { return wasaba_http_body(c, bytes.data(), bytes.size()), *this; }
    request &follow(unsigned limit) { return wasaba_http_follow(c, limit), *this; }
    bool has_header(const std::string &name) { return wasaba_http_has_header(c, name.c_str()); }
    // Whatever its status.
    response send() { return wasaba_http_send(c); }
    // A status that is not 2xx is an error that names the page.
    response ok() { return wasaba_http_ok(c); }
    wasaba::json json(WASABA_PLACE) { return {wasaba_http_json(c), where}; }

private:
    wasaba_request_t *c;
};

inline request get(const std::string &url) { return {"GET", url}; }

} // namespace http

// A stream, which is closed with this object; or none.
class connection {
public:
    static connection to(const std::string &host, std::uint16_t port, std::uint64_t timeout_ms = 0) {
        return wasaba_tcp_connect(host.c_str(), port, timeout_ms);
    }
    static connection to_unix(const std::string &path, std::uint64_t timeout_ms = 0) { return wasaba_tcp_connect_unix(path.c_str(), timeout_ms); }
    connection(wasaba_connection_t *c) : c(c) {}
    connection(connection &&other) : c(other.c) { other.c = nullptr; }
    connection &operator=(connection &&other) { return std::swap(c, other.c), *this; }
    ~connection() { wasaba_tcp_close(c); }
    explicit operator bool() const { return c; }
    // Empty at the end of the stream.
    std::optional<std::string_view> read(std::size_t max) {
        wasaba_bytes_t bytes;
        if (!wasaba_tcp_read(c, max, &bytes)) return std::nullopt;
        return std::string_view(reinterpret_cast<const char *>(bytes.bytes), bytes.size);
    }
    std::optional<std::string> line() {
        const char *text = wasaba_tcp_line(c);
        return text ? std::optional<std::string>(text) : std::nullopt;
    }
    bool write(std::string_view bytes) { return wasaba_tcp_write(c, bytes.data(), bytes.size()); }
    bool write(const std::string &prefix, const secret &value, const std::string &suffix) {
        return wasaba_tcp_write_secret(c, prefix.c_str(), value.handle, suffix.c_str());
    }
    bool finish() { return wasaba_tcp_finish(c); }
    bool is_local() const { return wasaba_tcp_is_local(c); }
    void set_timeout(std::uint64_t timeout_ms) { wasaba_tcp_set_timeout(c, timeout_ms); }
    bool start_tls(const wasaba_tls_options_t *options = nullptr, wasaba_tls_info_t *info = nullptr) { return wasaba_tcp_start_tls(c, options, info); }

private:
    wasaba_connection_t *c;
};

namespace kv {

inline std::optional<std::string> get(const std::string &key) {
    wasaba_bytes_t value;
    if (!wasaba_kv_get(key.c_str(), &value)) return std::nullopt;
    return std::string(reinterpret_cast<const char *>(value.bytes), value.size);
}
inline bool set(const std::string &key, std::string_view value, std::uint64_t time_ms = 0) {
    return wasaba_kv_set(key.c_str(), value.data(), value.size(), time_ms);
}
inline void remove(const std::string &key) { wasaba_kv_delete(key.c_str()); }

} // namespace kv

} // namespace wasaba

// Declares the plugin, once, and what it does.
#define WASABA_PLUGIN_CPP(...)                                                                      \
    static wasaba::plugin &wasaba_described() {                                                     \
        static wasaba::plugin description = __VA_ARGS__;                                            \
        return description;                                                                         \
    }                                                                                               \
    extern "C" {                                                                                    \
    extern const wasaba_plugin_t wasaba_plugin = wasaba_described().c();                            \
    WASABA_EXPORT("about@0.2.0#describe", about_describe, (void), ())                               \
    }
#define WASABA_METRICS_CPP(function) extern "C" { WASABA_METRICS(function) }
#define WASABA_CHECKS_CPP(function) extern "C" { WASABA_CHECKS(function) }
#define WASABA_METADATA_CPP(function) extern "C" { WASABA_METADATA(function) }

#endif
