//go:build wasip1

// Package export_wasaba_plugin_metrics is what the generated export calls.
package export_wasaba_plugin_metrics

import (
	witTypes "wasaba.dev/plugin/internal/bytecodealliance/wit/types"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_metrics"
)

// Graphs and Collect are set by package metrics.
var (
	Graphs  func(wit.Settings) []wit.Graph
	Collect func(wit.Settings) witTypes.Result[wit.Readings, wit.Error]
)
