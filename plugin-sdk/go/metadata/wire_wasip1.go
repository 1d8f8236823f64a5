package metadata

import (
	"wasaba.dev/plugin"
	witTypes "wasaba.dev/plugin/internal/bytecodealliance/wit/types"
	"wasaba.dev/plugin/internal/wire"
	export "wasaba.dev/plugin/internal/wit/exports/export_wasaba_plugin_metadata"
	_ "wasaba.dev/plugin/internal/wit/exports/metadata"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_metadata"
)

func init() { export.Gather = wireGather }

func wireGather(settings wit.Settings) witTypes.Result[wit.MetadataResults, wit.Error] {
	gathered, err := gather(wire.Settings(settings).(plugin.Settings))
	if err != nil {
		return witTypes.Err[wit.MetadataResults](wire.ErrorOf(err))
	}
	var results wit.MetadataResults
	for _, document := range gathered.documents {
		results.Documents = append(results.Documents, wit.Document{Namespace: document[0], Json: document[1]})
	}
	for _, problem := range gathered.problems {
		results.Problems = append(results.Problems, wire.Problem(problem.Target, problem.Err))
	}
	return witTypes.Ok[wit.MetadataResults, wit.Error](results)
}
