//go:build wasip1

// Package export_wasaba_plugin_checks is what the generated export calls.
package export_wasaba_plugin_checks

import (
	witTypes "wasaba.dev/plugin/internal/bytecodealliance/wit/types"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_checks"
)

// Check is set by package checks.
var Check func(wit.Settings) witTypes.Result[wit.CheckResults, wit.Error]
