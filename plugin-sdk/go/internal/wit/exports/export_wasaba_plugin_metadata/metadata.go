//go:build wasip1

// Package export_wasaba_plugin_metadata is what the generated export calls.
package export_wasaba_plugin_metadata

import (
	witTypes "wasaba.dev/plugin/internal/bytecodealliance/wit/types"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_metadata"
)

// Gather is set by package metadata.
var Gather func(wit.Settings) witTypes.Result[wit.MetadataResults, wit.Error]
