package metrics

import (
	"math"
	"strings"
	"time"

	"wasaba.dev/plugin/internal/bridge"
)

// Value is a number that was read.
type Value struct {
	// Float counts unless IsUnsigned.
	Float float64
	// Unsigned is a whole number, exact up to 2^64, as of a counter.
	Unsigned   uint64
	IsUnsigned bool
}

// Number returns it as a float, which is exact up to 2^53.
func (v Value) Number() float64 {
	if v.IsUnsigned {
		return float64(v.Unsigned)
	}
	return v.Float
}

// Number is what a value may be made of.
type Number interface {
	~int | ~int8 | ~int16 | ~int32 | ~int64 | ~uint | ~uint8 | ~uint16 | ~uint32 | ~uint64 | ~uintptr | ~float32 | ~float64
}

// Sample is a number that was read, with the name of its metric.
type Sample struct {
	// Name is the graph's name, a dot, the metric's name.
	Name  string
	Value Value
	// Time is when it was read; the zero time is now.
	Time time.Time
	// Host is the custom identifier of its host, if it is not the one of the operator's table.
	Host string
	// Labels are pairs of names and values. Mackerel has none.
	Labels [][2]string
}

// NewSample returns the reading of the metric with this full name: the graph's name, a dot, the metric's name. Whole numbers stay exact.
func NewSample[N Number](name string, number N) Sample {
	value := Value{Float: float64(number)}
	// Not so for a fraction: its type has halves.
	if half := 0.5; N(half) == 0 && number >= 0 {
		value = Value{Unsigned: uint64(number), IsUnsigned: true}
	}
	check(name, value)
	return Sample{Name: name, Value: value}
}

// At returns the same sample, read at this time. The agent drops what is more than 23 hours old.
func (s Sample) At(when time.Time) Sample {
	s.Time = when
	return s
}

// OfHost returns the same sample for the host with this custom identifier on Mackerel, which the operator must list in "hosts".
func (s Sample) OfHost(customIdentifier string) Sample {
	s.Host = customIdentifier
	return s
}

// Label returns the same sample with a label more. Mackerel has none.
func (s Sample) Label(name, value string) Sample {
	s.Labels = append(s.Labels[:len(s.Labels):len(s.Labels)], [2]string{name, value})
	return s
}

// graphs are those of the instance that is called; nil outside of a call.
var graphs []Graph

// check tells the author of a sample that Mackerel would not get.
func check(name string, value Value) {
	if graphs == nil {
		return
	}
	if !value.IsUnsigned && (math.IsNaN(value.Float) || math.IsInf(value.Float, 0)) {
		bridge.Mistake("the value of the sample `%s` is %v", name, value.Float)
	}
	for _, graph := range graphs {
		for _, metric := range graph.Metrics {
			if fits(name, graph.Name, metric.Name) {
				return
			}
		}
	}
	bridge.Mistake("no graph of the plugin has the sample `%s`", name)
}

// fits is whether a name is that of the metric: "*" and "#" stand for any segment.
func fits(name, graph, metric string) bool {
	for {
		pattern, rest, more := strings.Cut(graph, ".")
		segment, others, ok := strings.Cut(name, ".")
		if !ok || segment == "" || pattern != segment && pattern != "*" && pattern != "#" {
			return false
		}
		name, graph = others, rest
		if !more {
			return name == metric || metric == "*" && name != "" && !strings.Contains(name, ".")
		}
	}
}

// Readings are what a call has read.
type Readings struct {
	Samples []Sample
	// Problems are the targets without samples, of several.
	Problems []Problem
}

// Problem is why a target, in the operator's words, has no samples.
type Problem struct {
	Target string
	Err    error
}

// Add adds samples.
func (r *Readings) Add(samples ...Sample) { r.Samples = append(r.Samples, samples...) }

// AddProblem adds a target that failed, while others did not.
func (r *Readings) AddProblem(target string, err error) {
	r.Problems = append(r.Problems, Problem{target, err})
}
