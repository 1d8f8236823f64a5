// A plugin of libraries that know nothing of it: go-redis and net/http, as they are, over what the SDK gives them to connect with.
package main

import (
	"context"
	"io"
	"net/http"

	"github.com/redis/go-redis/v9"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/metrics"
	"wasaba.dev/plugin/setting"
	"wasaba.dev/plugin/tcp"
	"wasaba.dev/plugin/transport"
)

var (
	store = setting.Endpoint("redis").Default("localhost:6379").Help("a Redis server")
	web   = setting.URL("web").Default("http://localhost/").Help("a page")
	bare  = setting.Boolean("bare").Default("false").Help("whether net/http is used without the SDK")
)

func main() {}

func init() {
	plugin.Export(plugin.Plugin{
		Name: "libraries", Version: "0.1.0", Summary: "what go-redis and net/http see of their servers",
		Reaches:  []plugin.Reach{plugin.HTTP, plugin.TCP},
		Settings: []plugin.Setting{store, web, bare},
	}, metrics.Collector{
		Collect: collect,
		Graphs: []metrics.Graph{metrics.NewGraph("libraries", "Libraries", metrics.Integer,
			metrics.Gauge("redis", "Value of `answer` in Redis"),
			metrics.Gauge("status", "Status of the page"),
			metrics.Gauge("length", "Length of the page"),
		)},
	})
}

func collect(settings plugin.Settings) (readings metrics.Readings, err error) {
	client := redis.NewClient(&redis.Options{
		Addr: settings.Text(store), Dialer: tcp.DialContext, Protocol: 2, DisableIdentity: true, PoolSize: 1, MaxRetries: -1,
	})
	defer client.Close()
	answer, err := client.Get(context.Background(), "answer").Int()
	if err != nil {
		return readings, err
	}
	asked := transport.Client()
	if settings.Boolean(bare) {
		asked = http.DefaultClient
	}
	page, err := asked.Get(settings.Text(web))
	if err != nil {
		return readings, err
	}
	defer page.Body.Close()
	body, err := io.ReadAll(page.Body)
	if err != nil {
		return readings, err
	}
	readings.Add(
		metrics.NewSample("libraries.redis", answer),
		metrics.NewSample("libraries.status", page.StatusCode),
		metrics.NewSample("libraries.length", len(body)),
	)
	return readings, nil
}

var _ http.RoundTripper = transport.Transport{}
