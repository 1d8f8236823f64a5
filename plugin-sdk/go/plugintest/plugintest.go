//go:build !wasip1

// Package plugintest stands for the agent in native tests: it has canned answers, and calls what the plugin exports.
//
//	func TestThePageGivesTheJobs(t *testing.T) {
//		host := plugintest.New(t)
//		host.HTTP("http://localhost:7070/stats").Body(`{"jobs":3}`)
//		if samples := host.Samples(); samples["queue.jobs.waiting"] != 3 {
//			t.Error(samples)
//		}
//	}
//
// It does not check grants, and computes no rates: `wasaba plugin test` does, with the component itself.
package plugintest

import (
	"bytes"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/checks"
	"wasaba.dev/plugin/internal/bridge"
	"wasaba.dev/plugin/internal/native"
	"wasaba.dev/plugin/metrics"
)

// Host is an agent with canned answers.
type Host struct {
	t             testing.TB
	settings      map[string][]string
	answers       []*Answer
	conversations []*Conversation
	files         map[string]string
	kept, call    map[string][]byte
	lines         []string
	minute        time.Time
}

// New returns an agent for this test. Tests with one cannot run in parallel.
func New(t testing.TB) *Host {
	host := &Host{
		t: t, settings: map[string][]string{}, files: map[string]string{}, kept: map[string][]byte{},
		minute: time.Unix(1_800_000_000, 0).UTC(),
	}
	native.Current = wire{host}
	t.Cleanup(func() {
		native.Current = nil
		for _, answer := range host.answers {
			if !answer.asked && !t.Failed() {
				t.Errorf("there was no request %s %s", answer.method, answer.url)
			}
		}
	})
	return host
}

// Set sets a setting, or a secret. A repeatable one may have several values.
func (h *Host) Set(key string, values ...string) { h.settings[key] = values }

// HTTP answers GET requests for url. Several answers to the same request are used in order, and the last one is repeated.
func (h *Host) HTTP(url string) *Answer {
	answer := &Answer{method: "GET", url: url, response: native.Response{Status: 200}}
	h.answers = append(h.answers, answer)
	return answer
}

// Answer is what a server answers.
type Answer struct {
	method, url string
	headers     [][2]string
	response    native.Response
	err         error
	asked       bool
}

// Method makes it the answer to another method.
func (a *Answer) Method(method string) *Answer {
	a.method = method
	return a
}

// Expect makes the request need this header.
func (a *Answer) Expect(name, value string) *Answer {
	a.headers = append(a.headers, [2]string{name, value})
	return a
}

// Status is the status; without it, 200.
func (a *Answer) Status(status int) *Answer {
	a.response.Status = uint16(status)
	return a
}

// Header adds a header.
func (a *Answer) Header(name, value string) *Answer {
	a.response.Headers = append(a.response.Headers, [2]string{strings.ToLower(name), value})
	return a
}

// Body is the body.
func (a *Answer) Body(body string) *Answer {
	a.response.Body = []byte(body)
	return a
}

// Unreachable makes it a server that does not answer.
func (a *Answer) Unreachable(why string) *Answer { return a.Fail(plugin.Unreachable.Errorf("%s", why)) }

// Fail makes it a request that fails.
func (a *Answer) Fail(err error) *Answer {
	a.err = err
	return a
}

// TCP is a server at "db:5432" or "unix:/run/db.sock", for one connection.
func (h *Host) TCP(address string) *Conversation {
	conversation := &Conversation{address: address}
	h.conversations = append(h.conversations, conversation)
	return conversation
}

// Conversation is what is said on a connection.
type Conversation struct {
	address string
	turns   []turn
	err     error
	taken   bool
	written []byte
}

type turn struct {
	expect bool
	bytes  []byte
}

// Expect waits until this was written.
func (c *Conversation) Expect(text string) *Conversation {
	c.turns = append(c.turns, turn{true, []byte(text)})
	return c
}

// Send is what the server says then.
func (c *Conversation) Send(text string) *Conversation {
	c.turns = append(c.turns, turn{false, []byte(text)})
	return c
}

// Unreachable makes it a server that does not answer.
func (c *Conversation) Unreachable(why string) *Conversation {
	c.err = plugin.Unreachable.Errorf("%s", why)
	return c
}

// File is a file with this content.
func (h *Host) File(path, content string) { h.files[path] = content }

// Minute sets the minute that the next call is for. Each call is a minute later than the one before.
func (h *Host) Minute(minute time.Time) { h.minute = minute }

// Logged are the lines that were logged, such as "warning: the disk is full".
func (h *Host) Logged() []string { return h.lines }

// Kept are the values that the plugin keeps from call to call.
func (h *Host) Kept() map[string][]byte { return h.kept }

// Settings are those that the plugin would get.
func (h *Host) Settings() plugin.Settings {
	h.t.Helper()
	var values []bridge.Value
	declared := map[string]bool{}
	for _, setting := range plugin.Exported().Settings {
		setting := setting.Declared()
		declared[setting.Key] = true
		given, ok := h.settings[setting.Key]
		switch {
		case ok:
		case setting.Default != nil:
			given = []string{*setting.Default}
		case setting.Required:
			h.t.Fatalf("the setting `%s` is required: set it with host.Set", setting.Key)
		}
		for _, text := range given {
			value := bridge.Value{Key: setting.Key, Text: text}
			if setting.Kind == "secret" {
				value = bridge.Value{Key: setting.Key, Secret: native.Secret(text)}
			}
			values = append(values, value)
		}
	}
	for key := range h.settings {
		if !declared[key] {
			h.t.Fatalf("the plugin does not declare the setting `%s`", key)
		}
	}
	return bridge.NewSettings(values).(plugin.Settings)
}

// Graphs are the plugin's graphs with these settings.
func (h *Host) Graphs() []metrics.Graph {
	h.t.Helper()
	return bridge.Graphs(h.Settings()).([]metrics.Graph)
}

// Collect calls the plugin once.
func (h *Host) Collect() (metrics.Readings, error) {
	h.t.Helper()
	readings, err := run(h, bridge.Collect, "metrics.Collector")
	return readings.(metrics.Readings), err
}

// Check calls the plugin once.
func (h *Host) Check() ([]checks.Report, error) {
	h.t.Helper()
	reports, err := run(h, bridge.Check, "checks.Checker")
	return reports.([]checks.Report), err
}

// Gather calls the plugin once, and returns pairs of namespaces and JSON texts.
func (h *Host) Gather() ([][2]string, error) {
	h.t.Helper()
	documents, err := run(h, bridge.Gather, "metadata.Gatherer")
	return documents.([][2]string), err
}

// Samples calls the plugin once, which must not fail, and returns what it read.
func (h *Host) Samples() map[string]float64 {
	h.t.Helper()
	readings, err := h.Collect()
	if err != nil {
		h.t.Fatalf("the call failed: %v", err)
	}
	samples := map[string]float64{}
	for _, sample := range readings.Samples {
		samples[sample.Name] = sample.Value.Number()
	}
	return samples
}

func run(h *Host, call func(any) (any, error), what string) (any, error) {
	h.t.Helper()
	settings := h.Settings()
	if call == nil {
		h.t.Fatalf("the plugin has no %s", what)
	}
	h.call = maps.Clone(h.kept)
	result, err := call(settings)
	if err == nil {
		h.kept = h.call
	}
	h.minute = h.minute.Add(time.Minute)
	return result, err
}

// wire is what the capabilities ask.
type wire struct{ *Host }

func (w wire) Send(request native.Request) (native.Response, error) {
	var last *Answer
	for _, answer := range w.answers {
		if answer.method == request.Method && answer.url == request.URL && has(request, answer.headers) {
			last = answer
			if !answer.asked {
				break
			}
		}
	}
	if last == nil {
		w.t.Errorf("there is no answer to %s %s with the headers %q", request.Method, request.URL, request.Headers)
		return native.Response{}, plugin.Unreachable.Errorf("the test has no answer to %s %s", request.Method, request.URL)
	}
	last.asked = true
	return last.response, last.err
}

func has(request native.Request, headers [][2]string) bool {
	for _, wanted := range headers {
		if !slices.ContainsFunc(request.Headers, func(header [2]string) bool {
			return strings.EqualFold(header[0], wanted[0]) && header[1] == wanted[1]
		}) {
			return false
		}
	}
	return true
}

func (w wire) Connect(address string) (native.Connection, error) {
	for _, conversation := range w.conversations {
		if conversation.address == address && !conversation.taken {
			conversation.taken = true
			return talk{conversation}, conversation.err
		}
	}
	w.t.Errorf("there is no server at %s", address)
	return nil, plugin.Unreachable.Errorf("the test has no server at %s", address)
}

// talk is the plugin's end of a conversation.
type talk struct{ *Conversation }

func (c talk) Read(maxBytes int) ([]byte, error) {
	if len(c.turns) == 0 {
		return nil, nil
	}
	if first := &c.turns[0]; !first.expect {
		bytes := first.bytes[:min(len(first.bytes), maxBytes)]
		if first.bytes = first.bytes[len(bytes):]; len(first.bytes) == 0 {
			c.turns = c.turns[1:]
		}
		return bytes, nil
	}
	return nil, plugin.Timeout.Errorf("%s: the server waits for %q", c.address, c.turns[0].bytes)
}

func (c talk) Write(sent []byte) error {
	c.written = append(c.written, sent...)
	for len(c.turns) > 0 && c.turns[0].expect && len(c.written) >= len(c.turns[0].bytes) {
		expected := c.turns[0].bytes
		if !bytes.HasPrefix(c.written, expected) {
			return plugin.Unreachable.Errorf("%s: the server expects %q, not %q", c.address, expected, c.written)
		}
		c.written, c.turns = c.written[len(expected):], c.turns[1:]
	}
	return nil
}

func (c talk) Finish() error { return nil }

func (c talk) Close() {}

func (w wire) Open(path string) ([]byte, error) {
	content, ok := w.files[path]
	if !ok {
		return nil, plugin.Failed.Errorf("cannot open `%s`: it does not exist", path)
	}
	return []byte(content), nil
}

func (w wire) Get(key string) ([]byte, bool) {
	value, ok := w.call[key]
	return value, ok
}

func (w wire) Set(key string, value []byte, _ time.Duration) error {
	if key == "" || len(key) > 255 {
		return plugin.Invalid.Errorf("the key is empty or longer than 255 bytes")
	}
	if w.call == nil {
		w.call = map[string][]byte{}
	}
	w.call[key] = slices.Clone(value)
	return nil
}

func (w wire) Delete(key string) { delete(w.call, key) }

func (w wire) Keys(prefix string) []string {
	var keys []string
	for key := range w.call {
		if strings.HasPrefix(key, prefix) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func (w wire) Log(level, line string) { w.lines = append(w.lines, fmt.Sprintf("%s: %s", level, line)) }

func (w wire) Minute() uint64 { return uint64(w.minute.Unix()) / 60 * 60 }

func (w wire) Remaining() time.Duration { return 10 * time.Second }

func (w wire) Limit(name string) (uint64, bool) {
	limits := map[string]uint64{"samples": 1000, "body_kib": 4096, "file_kib": 4096, "kv_kib": 64}
	limit, ok := limits[name]
	return limit, ok
}
