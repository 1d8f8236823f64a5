// A plugin that uses everything in the contract once: each export, each function of each capability.
package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"slices"
	"strconv"
	"time"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/call"
	"wasaba.dev/plugin/checks"
	"wasaba.dev/plugin/crypto"
	"wasaba.dev/plugin/files"
	"wasaba.dev/plugin/http"
	"wasaba.dev/plugin/kv"
	"wasaba.dev/plugin/log"
	"wasaba.dev/plugin/metadata"
	"wasaba.dev/plugin/metrics"
	"wasaba.dev/plugin/setting"
	"wasaba.dev/plugin/tcp"
)

var (
	url      = setting.URL("url").Required().Help("a page to get")
	host     = setting.Host("host").Default("localhost").Help("an echo server")
	port     = setting.Port("port").OfHost("host").Default("7").Help("an echo server")
	endpoint = setting.Endpoint("endpoint").Repeatable().Help("servers that are not there")
	socket   = setting.UnixSocket("socket").Required().Help("another echo server")
	file     = setting.File("file").Required().Help("a file to read")
	text     = setting.Text("text").Default("text").Repeatable().Help("any text")
	token    = setting.Secret("token").Help("a secret")
)

func main() {}

func init() {
	plugin.Export(plugin.Plugin{
		Name:    "everything",
		Version: "0.1.0",
		Summary: "uses everything in the contract once",
		Reaches: []plugin.Reach{plugin.HTTP, plugin.TCP, plugin.Unix, plugin.File},
		Attributes: []plugin.Attribute{
			{"license", "Apache-2.0"},
			{"homepage", "https://example.com/everything"},
			{"interval-seconds", "60"},
			{"timeout-seconds", "10"},
			{"agent", "0.1.0"},
		},
		Settings: []plugin.Setting{
			url, host, port, endpoint, socket, file, text, token,
			setting.Integer("integer").Default("-1").Help("a whole number"),
			setting.Number("number").Default("0.5").Help("a number"),
			setting.Boolean("boolean").Default("true").Help("yes or no"),
			setting.Duration("patience").Default("5s").Help("how long to wait"),
			setting.TLSSkipVerify("tls-skip-verify").Default("false").Help("accept any certificate"),
			setting.TLSMode("sslmode").Alias("verify-full", "full").Default("verify-full").Help("how TLS is used"),
		},
	},
		metrics.Collector{
			Collect: collect,
			Graphs: []metrics.Graph{
				metrics.NewGraph("everything.done", "Everything", metrics.Integer,
					metrics.Gauge("http", "Status of the page"),
					metrics.Gauge("tcp", "Echoed bytes").Stacked(),
					metrics.Gauge("unix", "Echoed bytes").Stacked(),
					metrics.Gauge("file", "Length of the file"),
					metrics.Gauge("calls", "Calls so far"),
					metrics.Gauge("then", "A minute ago")),
				metrics.NewGraph("everything.rates.#", "Rates", metrics.BytesPerSecond,
					metrics.PerMinute("minute", "Per minute"),
					metrics.PerMinute32("wraps", "Per minute"),
					metrics.Delta("delta", "Since the last call"),
					metrics.PerSecond("*", "Per second").Scale(8)),
			},
		},
		checks.Checker{Check: check},
		metadata.Gatherer{Gather: gather},
	)
}

func collect(settings plugin.Settings) (readings metrics.Readings, err error) {
	log.Debug("debug")
	log.Info("info")
	log.Warning("warning")
	secret := settings.Secret(token)
	request := http.Get(settings.Text(url)).Header("accept", "*/*").
		HeaderSecret("x-token", "token ", secret).BasicAuth("me", secret).HeaderLines(secret)
	if has, err := request.HasHeader("Accept"); err != nil {
		return readings, err
	} else if !has {
		return readings, plugin.Failed.Errorf("the request has no header")
	}
	page, err := request.Follow(1).Send()
	if err != nil {
		return readings, err
	}
	stream, err := tcp.Connect(settings.Text(host), settings.Port(port))
	if err != nil {
		return readings, err
	}
	other, err := tcp.ConnectWithin(settings.Text(host), settings.Port(port), 5*time.Second)
	if err != nil {
		return readings, err
	}
	other.Close()
	unix, err := tcp.ConnectUnix(settings.Text(socket))
	if err != nil {
		return readings, err
	}
	size, err := fileSize(settings)
	if err != nil {
		return readings, err
	}
	calls, err := count()
	if err != nil {
		return readings, err
	}
	minute := call.Minute()
	samples, ok := call.Limit("samples")
	if call.Remaining() > time.Minute || minute.Unix()%60 != 0 || !ok || samples != 1000 || call.AgentVersion() == "" ||
		!call.Has("tcp") || call.Has("everything") {
		return readings, plugin.Failed.Errorf("the call does not know what it is")
	}
	echoed, err := echo(stream, secret)
	if err != nil {
		return readings, err
	}
	readings.Add(metrics.NewSample("everything.done.http", page.Status), metrics.NewSample("everything.done.tcp", echoed))
	if echoed, err = echo(unix, secret); err != nil {
		return readings, err
	}
	readings.Add(
		metrics.NewSample("everything.done.unix", echoed),
		metrics.NewSample("everything.done.file", size),
		metrics.NewSample("everything.done.calls", calls).Label("kind", "calls"),
		metrics.NewSample("everything.done.then", calls).At(minute.Add(-time.Minute)),
	)
	for _, kind := range []string{"minute", "second", "wraps", "delta"} {
		readings.Add(metrics.NewSample("everything.rates.a."+kind, uint64(calls)))
	}
	for _, server := range settings.Endpoints(endpoint) {
		if _, err := tcp.Connect(server.Host, server.Port); err != nil {
			readings.AddProblem(server.String(), err)
		}
	}
	return readings, nil
}

// count returns how often the plugin was called.
func count() (uint8, error) {
	calls := uint8(1)
	if before, ok := kv.Get("calls"); ok && len(before) > 0 && before[0] < 255 {
		calls += before[0]
	}
	for _, set := range []func() error{
		func() error { return kv.Set("calls", []byte{calls}) },
		func() error { return kv.Set("gone", []byte("soon")) },
		func() error { return kv.SetFor("calls.last", []byte{calls}, time.Minute) },
	} {
		if err := set(); err != nil {
			return 0, err
		}
	}
	kv.Delete("gone")
	if keys := kv.Keys("c"); !slices.Equal(keys, []string{"calls", "calls.last"}) {
		return 0, plugin.Failed.Errorf("unexpected keys: %q", kv.Keys(""))
	}
	return calls, nil
}

// fileSize returns the size of the file, which is read whole and in parts.
func fileSize(settings plugin.Settings) (uint64, error) {
	path := settings.Text(file)
	whole, err := files.Read(path, 1<<20)
	if err != nil {
		return 0, err
	}
	opened, err := files.Open(path)
	if err != nil {
		return 0, err
	}
	defer opened.Close()
	stat, err := opened.Stat()
	if err != nil {
		return 0, err
	}
	first := make([]byte, 1)
	read, err := opened.ReadAt(first, 0)
	if err != nil && err != io.EOF {
		return 0, err
	}
	if stat.Size != uint64(len(whole)) || stat.ID == 0 || string(first[:read]) != string(whole[:read]) {
		return 0, plugin.Failed.Errorf("a part of the file differs from the whole")
	}
	return stat.Size, nil
}

// echo returns how many bytes an echo server sends back.
func echo(connection *tcp.Conn, secret *plugin.Secret) (int, error) {
	defer connection.Close()
	connection.SetTimeout(5 * time.Second)
	if !connection.IsLocal() {
		return 0, plugin.Failed.Errorf("the echo server is not on this machine")
	}
	if _, err := io.WriteString(connection, "everything"); err != nil {
		return 0, err
	}
	if secret != nil {
		if err := connection.WriteSecret("<", secret, ">"); err != nil {
			return 0, err
		}
	}
	if err := connection.CloseWrite(); err != nil {
		return 0, err
	}
	bytes, err := io.ReadAll(io.LimitReader(connection, 1<<20))
	return len(bytes), err
}

func check(settings plugin.Settings) ([]checks.Report, error) {
	answer, err := http.New("HEAD", settings.Text(url)).Body(nil).Send()
	if err != nil {
		return nil, err
	}
	var page checks.Report
	switch {
	case answer.Status == 200:
		page = checks.OK("the page is there")
	case answer.Status < 500:
		page = checks.Warning("the page answers %d", answer.Status)
	default:
		page = checks.Critical("the page answers %d", answer.Status)
	}
	return []checks.Report{page, checks.Unknown("nothing is known of it").Named("else")}, nil
}

func gather(settings plugin.Settings) (results metadata.Results, err error) {
	// Never called, but it links the functions.
	if value, _ := settings.Get(text); value == "never" {
		return login(settings)
	}
	results.Documents = []metadata.Document{
		{Content: map[string]int{"texts": len(settings.All(text))}},
		{Namespace: "all-more", Content: json.RawMessage("[]")},
	}
	return results, nil
}

func login(settings plugin.Settings) (results metadata.Results, err error) {
	secret := settings.Secret(token)
	if secret == nil {
		return results, plugin.Misconfigured.Errorf("`token` is not set")
	}
	address := net.JoinHostPort(settings.Text(host), strconv.Itoa(int(settings.Port(port))))
	connection, err := tcp.DialContext(context.Background(), "tcp", address)
	if err != nil {
		return results, err
	}
	if _, err := connection.(*tcp.Conn).StartTLS(tcp.TLSOptions{ServerName: "localhost", ALPN: []string{"h2"}}); err != nil {
		return results, err
	}
	proof, err := crypto.ScramSHA256(secret, []byte("salt"), 4096, "")
	if err != nil {
		return results, err
	}
	md5, err := crypto.PostgresMD5(secret, "me", proof.ServerSignature)
	if err != nil {
		return results, err
	}
	revealed, err := secret.Reveal()
	return metadata.Of(revealed + md5), err
}
