package metrics

import (
	"wasaba.dev/plugin"
	witTypes "wasaba.dev/plugin/internal/bytecodealliance/wit/types"
	"wasaba.dev/plugin/internal/wire"
	export "wasaba.dev/plugin/internal/wit/exports/export_wasaba_plugin_metrics"
	_ "wasaba.dev/plugin/internal/wit/exports/metrics"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_metrics"
)

func init() { export.Graphs, export.Collect = wireGraphs, wireCollect }

func wireGraphs(settings wit.Settings) []wit.Graph {
	graphs := graphsOf(wire.Settings(settings).(plugin.Settings))
	all := make([]wit.Graph, len(graphs))
	for index, graph := range graphs {
		metrics := make([]wit.Metric, len(graph.Metrics))
		for index, metric := range graph.Metrics {
			scale := witTypes.None[float64]()
			if metric.isScaled {
				scale = witTypes.Some(metric.factor)
			}
			metrics[index] = wit.Metric{
				Name: metric.Name, Label: metric.Label, Stacked: metric.isStacked, Reading: metric.reading, Scale: scale,
			}
		}
		all[index] = wit.Graph{Name: graph.Name, Label: graph.Label, Unit: string(graph.Unit), Metrics: metrics}
	}
	return all
}

func wireCollect(settings wit.Settings) witTypes.Result[wit.Readings, wit.Error] {
	readings, err := collect(wire.Settings(settings).(plugin.Settings))
	if err != nil {
		return witTypes.Err[wit.Readings](wire.ErrorOf(err))
	}
	samples := make([]wit.Sample, len(readings.Samples))
	for index, sample := range readings.Samples {
		value := wit.MakeValueFloat(sample.Value.Float)
		if sample.Value.IsUnsigned {
			value = wit.MakeValueUnsigned(sample.Value.Unsigned)
		}
		when, host := witTypes.None[uint64](), witTypes.None[string]()
		if !sample.Time.IsZero() {
			when = witTypes.Some(uint64(max(sample.Time.Unix(), 0)))
		}
		if sample.Host != "" {
			host = witTypes.Some(sample.Host)
		}
		samples[index] = wit.Sample{
			Name: sample.Name, Value: value, UnixSeconds: when, Host: host, Attributes: wire.PairsOf(sample.Labels),
		}
	}
	problems := make([]wit.Problem, len(readings.Problems))
	for index, problem := range readings.Problems {
		problems[index] = wire.Problem(problem.Target, problem.Err)
	}
	return witTypes.Ok[wit.Readings, wit.Error](wit.Readings{Samples: samples, Problems: problems})
}
