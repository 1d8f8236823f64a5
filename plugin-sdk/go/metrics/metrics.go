// Package metrics is for plugins that collect numbers once a minute: what most plugins do.
package metrics

import (
	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/bridge"
)

// Collector is the part of a plugin that collects metrics. Pass it to [plugin.Export].
type Collector struct {
	// Graphs are those that every instance has.
	Graphs []Graph
	// GraphsOf returns further graphs, which depend on an instance's settings. It must not use a capability.
	GraphsOf func(plugin.Settings) []Graph
	// Collect reads everything once. It is called once a minute, each time in a fresh instance: memory does not survive.
	Collect func(plugin.Settings) (Readings, error)
}

var collector Collector

// Serve makes it what the agent calls.
func (c Collector) Serve() {
	if c.Collect == nil {
		panic("metrics.Collector has no Collect")
	}
	for _, graph := range c.Graphs {
		graph.check()
	}
	collector = c
}

// graphsOf returns all graphs of an instance.
func graphsOf(settings plugin.Settings) []Graph {
	// Never nil.
	all := append([]Graph{}, collector.Graphs...)
	if collector.GraphsOf != nil {
		for _, graph := range collector.GraphsOf(settings) {
			graph.check()
			all = append(all, graph)
		}
	}
	return all
}

// collect runs the author's function.
func collect(settings plugin.Settings) (readings Readings, err error) {
	err = bridge.Call(func() (err error) {
		graphs = graphsOf(settings)
		added.forget()
		readings, err = collector.Collect(settings)
		if err == nil {
			for _, sample := range readings.Samples {
				check(sample.Name, sample.Value)
			}
			unique(readings.Samples)
		}
		return err
	})
	graphs = nil
	return readings, err
}

func init() {
	bridge.Collect = func(settings any) (any, error) { return collect(settings.(plugin.Settings)) }
	bridge.Graphs = func(settings any) any { return graphsOf(settings.(plugin.Settings)) }
}
