package metrics

import (
	"fmt"
	"math"
	"strings"
	"sync"
	"time"

	"wasaba.dev/plugin/internal/bridge"
	"wasaba.dev/plugin/internal/place"
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
	// Labels are pairs of names and values. They are not posted: Mackerel does not have any.
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

// Label returns the same sample with one more label. The agent keeps labels, and does not post them: Mackerel does not have any.
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
	bridge.Mistake("no graph of the plugin has the sample `%s`%s", name, custom(name))
}

// custom is the cure if a sample would fit a graph but for Mackerel's "custom.".
func custom(name string) string {
	const prefix = "custom."
	for _, graph := range graphs {
		for _, metric := range graph.Metrics {
			if bare, ok := strings.CutPrefix(name, prefix); ok && fits(bare, graph.Name, metric.Name) {
				return ": names of samples are written without `custom.`, which the agent adds"
			}
			if bare, ok := strings.CutPrefix(graph.Name, prefix); ok && fits(name, bare, metric.Name) {
				return fmt.Sprintf(", but `%s` is: names of graphs are written without `custom.`, which the agent adds", graph.Name)
			}
		}
	}
	return ""
}

// identity is what two samples of a call must not share. The time is in seconds, as the agent has it.
type identity struct {
	name, host string
	unix       int64
}

func identityOf(sample Sample) identity {
	made := identity{name: sample.Name, host: sample.Host}
	if !sample.Time.IsZero() {
		made.unix = sample.Time.Unix()
	}
	return made
}

// added are the samples of this call that were passed to Readings.Add, and the line of the author's code that added one again.
var added additions

type additions struct {
	sync.Mutex
	lines map[identity]string
}

func (a *additions) forget() {
	a.Lock()
	defer a.Unlock()
	a.lines = map[identity]string{}
}

func (a *additions) note(sample Sample) {
	a.Lock()
	defer a.Unlock()
	key := identityOf(sample)
	if _, again := a.lines[key]; !again {
		a.lines[key] = ""
	} else {
		a.lines[key] = place.Of()
	}
}

// unique reports a sample that is there twice: of two values, Mackerel would keep one.
func unique(samples []Sample) {
	seen := make(map[identity]bool, len(samples))
	for _, sample := range samples {
		key := identityOf(sample)
		if seen[key] {
			bridge.MistakeAt(added.lines[key], "the sample `%s` is returned twice", sample.Name)
			return
		}
		seen[key] = true
	}
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

// Add adds samples. Each is there once: two with the same name, host and time are a mistake.
func (r *Readings) Add(samples ...Sample) {
	if graphs != nil {
		for _, sample := range samples {
			added.note(sample)
		}
	}
	r.Samples = append(r.Samples, samples...)
}

// AddProblem adds a target that failed, while others did not.
func (r *Readings) AddProblem(target string, err error) {
	r.Problems = append(r.Problems, Problem{target, err})
}
