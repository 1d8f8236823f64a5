package checks

import (
	"wasaba.dev/plugin"
	witTypes "wasaba.dev/plugin/internal/bytecodealliance/wit/types"
	"wasaba.dev/plugin/internal/wire"
	_ "wasaba.dev/plugin/internal/wit/exports/checks"
	export "wasaba.dev/plugin/internal/wit/exports/export_wasaba_plugin_checks"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_checks"
)

func init() { export.Check = wireCheck }

func wireCheck(settings wit.Settings) witTypes.Result[wit.CheckResults, wit.Error] {
	reports, err := check(wire.Settings(settings).(plugin.Settings))
	if err != nil {
		return witTypes.Err[wit.CheckResults](wire.ErrorOf(err))
	}
	results := wit.CheckResults{Reports: make([]wit.Report, len(reports))}
	for index, report := range reports {
		results.Reports[index] = wit.Report{Name: report.Name, Status: wit.Status(report.Status), Message: report.Message}
	}
	return witTypes.Ok[wit.CheckResults, wit.Error](results)
}
