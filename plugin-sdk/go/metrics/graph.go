package metrics

import (
	"slices"
	"strings"

	"wasaba.dev/plugin/internal/bridge"
)

// Unit is what Mackerel shows at a graph's axis. Values are posted in this unit: [Metric.Scale] converts what is read in another.
type Unit string

// The units are Mackerel's. There are no others.
const (
	// Float is a number with a fraction.
	Float Unit = "float"
	// Integer is a whole number.
	Integer Unit = "integer"
	// Percentage is 0 to 100, not 0 to 1.
	Percentage   Unit = "percentage"
	Seconds      Unit = "seconds"
	Milliseconds Unit = "milliseconds"
	Bytes        Unit = "bytes"
	// BytesPerSecond is Mackerel's bytes/sec.
	BytesPerSecond Unit = "bytes-per-second"
	// BitsPerSecond is Mackerel's bits/sec.
	BitsPerSecond Unit = "bits-per-second"
	IOPS          Unit = "iops"
)

// units are all of them.
var units = []Unit{Float, Integer, Percentage, Seconds, Milliseconds, Bytes, BytesPerSecond, BitsPerSecond, IOPS}

// Graph is a graph on Mackerel.
//
// Where what it shows is known only when the plugin runs, such as the names of workers, a segment of its name may be a wildcard, which
// stands for any segment. Samples have a name there: [plugin.Segment] makes it of any text.
//
//   - "#", at most one, is a graph for each name. NewGraph("queue.workers.#", "Workers", Integer, Gauge("busy", "Busy")) with the samples
//     queue.workers.a.busy and queue.workers.b.busy is two graphs with one line each.
//   - "*" is a line for each name, all in one graph. NewGraph("queue.busy", "Busy", Integer, Gauge("*", "%1")) with the samples
//     queue.busy.a and queue.busy.b is one graph with two lines, called a and b.
type Graph struct {
	// Name is segments joined by dots, without "custom."; a segment may be "*", and one "#".
	Name string
	// Label is the graph's title.
	Label string
	// Unit must be set, to one of the constants.
	Unit    Unit
	Metrics []Metric
}

// NewGraph returns a graph with these metrics. Its name is segments of A-Z a-z 0-9 _ -, joined by dots, without "custom.", which the
// agent adds; [Graph] explains the wildcards "#" and "*". It panics if the unit is not one of the constants.
func NewGraph(name, label string, unit Unit, metrics ...Metric) Graph {
	graph := Graph{name, label, unit, metrics}
	graph.check()
	return graph
}

// check panics if the unit is not one.
func (g Graph) check() {
	if !slices.Contains(units, g.Unit) {
		valid := make([]string, len(units))
		for index, unit := range units {
			valid[index] = string(unit)
		}
		panic(bridge.Panicked{Err: bridge.Mistake("the graph `%s` has the unit %q; valid: %s", g.Name, g.Unit, strings.Join(valid, ", "))})
	}
}

// Metric is a line in a graph, and how the agent turns its readings into values. [Gauge], [PerMinute], [PerSecond], [Delta] and
// [PerMinute32] make them, of a name and a label:
//
//   - The name is one segment, or "*" for any. A sample has the graph's name, a dot, this name: queue.jobs.waiting.
//   - The label is its name in the graph's legend; if it is empty, the name. "%1" in it is what the first wildcard stands for, "%2" what
//     the second does, counted over the graph's name and the metric's.
type Metric struct {
	// Name is one segment, or "*".
	Name string
	// Label is its name in the legend, with "%1" for the first wildcard.
	Label string

	isStacked bool
	// reading is the contract's word.
	reading  string
	isScaled bool
	factor   float64
}

// Gauge is a reading that is posted as it is: how many there are now.
func Gauge(name, label string) Metric { return Metric{Name: name, Label: label, reading: "gauge"} }

// PerMinute is a counter, such as of all requests since the start, whose growth per minute is posted: Mackerel's convention. Report its
// current reading, and the agent computes the rate. No counter has a value for its first reading, or after a reset.
func PerMinute(name, label string) Metric {
	return Metric{Name: name, Label: label, reading: "per-minute"}
}

// PerSecond is a counter whose growth per second is posted, as for [BytesPerSecond] and [IOPS].
func PerSecond(name, label string) Metric {
	return Metric{Name: name, Label: label, reading: "per-second"}
}

// Delta is a counter whose growth since the previous reading is posted, whatever time has passed.
func Delta(name, label string) Metric { return Metric{Name: name, Label: label, reading: "delta"} }

// PerMinute32 is a counter that continues with 0 after 2^32 - 1, whose growth per minute is posted.
func PerMinute32(name, label string) Metric {
	return Metric{Name: name, Label: label, reading: "per-minute-32"}
}

// Stacked stacks it on the graph's other stacked metrics.
func (m Metric) Stacked() Metric {
	m.isStacked = true
	return m
}

// Scale multiplies the value by factor, which must not be 0, after the rate. What is read in milliseconds, in a graph in [Seconds], is
// Gauge("latency", "Latency").Scale(0.001); a ratio in [Percentage] has Scale(100), and a counter of bytes in [BitsPerSecond]
// PerSecond("in", "In").Scale(8).
func (m Metric) Scale(factor float64) Metric {
	m.isScaled, m.factor = true, factor
	return m
}
