// A plugin that misbehaves on request: its setting `do` says how.
package main

import (
	"fmt"
	"math"
	"os"
	"strconv"
	"strings"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/http"
	"wasaba.dev/plugin/log"
	"wasaba.dev/plugin/metrics"
	"wasaba.dev/plugin/setting"
)

var (
	do    = setting.Text("do").Default("nothing").Help("what to do wrong")
	url   = setting.URL("url").Default("http://localhost/").Help("a page with a number")
	token = setting.Secret("token").Help("a secret that must not be shown")
	// uri is not declared.
	uri = setting.URL("uri")
)

func main() {}

func init() {
	plugin.Export(plugin.Plugin{
		Name:     "naughty",
		Version:  "0.1.0",
		Summary:  "misbehaves on request",
		Reaches:  []plugin.Reach{plugin.HTTP},
		Settings: []plugin.Setting{do, url, token},
	}, metrics.Collector{
		Collect: collect,
		Graphs: []metrics.Graph{
			metrics.NewGraph("naughty", "Naughty", metrics.Float, metrics.Gauge("*", "%1")),
			metrics.NewGraph("naughty.counted", "Counted", metrics.Integer, metrics.Delta("large", "Large")),
		},
	})
}

var hoard [][]byte

func collect(settings plugin.Settings) (readings metrics.Readings, err error) {
	good := metrics.NewSample("naughty.good", 1)
	switch settings.Text(do) {
	case "loop":
		for {
		}
	case "memory":
		for {
			hoard = append(hoard, make([]byte, 1<<20))
		}
	case "raise":
		panic("on purpose")
	case "index":
		var none []int
		_ = none[len(hoard)]
	case "flood":
		for line := range 1000 {
			log.Info("line %d", line)
		}
		readings.Add(good)
	case "wrong-type", "nan":
		// The language has no other types for a value.
		readings.Add(good, metrics.NewSample("naughty.nan", math.NaN()))
	case "wrong-setting":
		settings.Text(uri)
	case "wrong-name":
		readings.Add(metrics.NewSample("other.waiting", 1))
	case "print":
		fmt.Println("on standard output", settings.Secret(token))
		fmt.Fprintf(os.Stderr, "on standard error %v %+v %#v\n", settings.Secret(token), settings, settings)
		readings.Add(good)
	case "large":
		page, err := http.Get(settings.Text(url)).Text()
		if err != nil {
			return readings, err
		}
		large, err := strconv.ParseUint(strings.TrimSpace(page), 10, 64)
		if err != nil {
			return readings, err
		}
		readings.Add(metrics.NewSample("naughty.counted.large", large))
	case "secret-as-text":
		settings.Text(token)
	case "secret-in-text":
		http.Get(settings.Text(url)).Header("authorization", fmt.Sprint("Bearer ", settings.Secret(token)))
		readings.Add(good)
	case "twice":
		readings.Add(good)
		readings.Add(metrics.NewSample("naughty.good", 2))
	case "none":
	default:
		readings.Add(good)
	}
	return readings, nil
}
