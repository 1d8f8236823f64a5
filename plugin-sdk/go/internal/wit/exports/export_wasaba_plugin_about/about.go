//go:build wasip1

// Package export_wasaba_plugin_about is what the generated export calls.
package export_wasaba_plugin_about

import "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_about"

// Describe is set by package plugin.
var Describe func() wasaba_plugin_about.Description
