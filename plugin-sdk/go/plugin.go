// Package plugin is for plugins of the wasaba agent in Go: a description, a function that reads everything once a minute, and one call
// of [Export] in an init function.
//
// What a plugin does has a package each: wasaba.dev/plugin/metrics, checks and metadata. So has what it may use: http, tcp, kv, log,
// files, crypto and call. A component imports and exports only what the plugin's code uses.
//
// The contract, the folder wit of wasaba, documents what each kind of setting means and grants, and how readings become values.
package plugin

import "sync"

// Plugin describes a plugin.
type Plugin struct {
	// Name is letters, digits, "-" and "_".
	Name string
	// Version is the plugin's own, such as "1.4.0".
	Version string
	// Summary says in one line what it collects.
	Summary string
	// Reaches is what it reaches through capabilities. Everything else is denied to it, whatever the operator grants.
	Reaches []Reach
	// Settings are those that the operator may write.
	Settings []Setting
	// Attributes are further facts: "license", "homepage", "interval-seconds", "timeout-seconds", or "agent" for the oldest version of
	// the agent that it works with.
	Attributes []Attribute
}

// Attribute is a fact with a name.
type Attribute struct{ Key, Value string }

// Reach is a word for what a plugin reaches.
type Reach string

const (
	// HTTP is requests to servers.
	HTTP Reach = "http"
	// TCP is streams to hosts.
	TCP Reach = "tcp"
	// Unix is streams to unix sockets.
	Unix Reach = "unix"
	// File is reading files.
	File Reach = "file"
)

// Part is something that a plugin does: a metrics.Collector, checks.Checker or metadata.Gatherer.
type Part interface {
	// Serve makes it what the agent calls.
	Serve()
}

var exported struct {
	sync.Mutex
	plugin *Plugin
}

// Export makes the plugin what the agent sees. Call it once, in an init function: main is never called.
func Export(plugin Plugin, parts ...Part) {
	exported.Lock()
	defer exported.Unlock()
	if exported.plugin != nil {
		panic("plugin.Export was called twice")
	}
	if len(parts) == 0 {
		panic("plugin.Export needs something that the plugin does, such as metrics.Collector{...}")
	}
	exported.plugin = &plugin
	for _, part := range parts {
		part.Serve()
	}
}

// Exported returns what was passed to [Export].
func Exported() Plugin {
	exported.Lock()
	defer exported.Unlock()
	if exported.plugin == nil {
		panic("plugin.Export was not called: call it in an init function of the package main")
	}
	return *exported.plugin
}
