package metrics

// Unit is what Mackerel shows at a graph's axis.
type Unit string

// The units are Mackerel's.
const (
	Float          Unit = "float"
	Integer        Unit = "integer"
	Percentage     Unit = "percentage"
	Seconds        Unit = "seconds"
	Milliseconds   Unit = "milliseconds"
	Bytes          Unit = "bytes"
	BytesPerSecond Unit = "bytes-per-second"
	BitsPerSecond  Unit = "bits-per-second"
	IOPS           Unit = "iops"
)

// Graph is a graph on Mackerel.
type Graph struct {
	// Name is segments joined by dots, without "custom."; a segment may be "*", and one "#".
	Name  string
	Label string
	// Unit must be set.
	Unit    Unit
	Metrics []Metric
}

// NewGraph returns a graph with these metrics.
func NewGraph(name, label string, unit Unit, metrics ...Metric) Graph {
	return Graph{name, label, unit, metrics}
}

// Metric is a line in a graph, and how the agent turns its readings into values.
type Metric struct {
	Name, Label string
	isStacked   bool
	// reading is the contract's word.
	reading  string
	isScaled bool
	factor   float64
}

// Gauge is a reading that is posted as it is.
func Gauge(name, label string) Metric { return Metric{Name: name, Label: label, reading: "gauge"} }

// PerMinute is a counter whose growth per minute is posted.
func PerMinute(name, label string) Metric {
	return Metric{Name: name, Label: label, reading: "per-minute"}
}

// PerSecond is a counter whose growth per second is posted.
func PerSecond(name, label string) Metric {
	return Metric{Name: name, Label: label, reading: "per-second"}
}

// Delta is a counter whose growth since the previous call is posted.
func Delta(name, label string) Metric { return Metric{Name: name, Label: label, reading: "delta"} }

// PerMinute32 is a counter that wraps at 2^32, whose growth per minute is posted.
func PerMinute32(name, label string) Metric {
	return Metric{Name: name, Label: label, reading: "per-minute-32"}
}

// Stacked stacks it on the graph's other stacked metrics.
func (m Metric) Stacked() Metric {
	m.isStacked = true
	return m
}

// Scale multiplies the value by factor, which must not be 0, after the rate.
func (m Metric) Scale(factor float64) Metric {
	m.isScaled, m.factor = true, factor
	return m
}
