package metrics

import (
	"errors"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/kv"
	"wasaba.dev/plugin/log"
)

// down is set while the target is, so that this is logged once.
const down = "down"

// Up adds the sample name to what was collected: 1 if the target answered; 0, alone, if it did not answer or its answer is unusable.
// That is then not an error of the plugin any more, so it is logged with its reason when it begins, and when the target recovers. An
// error that the operator has to fix stays one, since it says nothing about the target.
//
//	return metrics.Up("queue.up.up", readings, err)
func Up(name string, readings Readings, err error) (Readings, error) {
	_, wasDown := kv.Get(down)
	if err == nil {
		if wasDown {
			log.Info("the target is up again")
			kv.Delete(down)
		}
		readings.Add(NewSample(name, 1))
		return readings, nil
	}
	var own *plugin.Error
	if errors.As(err, &own) {
		switch own.Kind {
		case plugin.Unreachable, plugin.Timeout, plugin.Failed, plugin.Unsupported:
		default:
			return Readings{}, err
		}
		if own.RetryAfter > 0 {
			return Readings{}, err
		}
	}
	if !wasDown {
		log.Warning("the target is down: %v", err)
		if err := kv.Set(down, nil); err != nil {
			return Readings{}, err
		}
	}
	return Readings{Samples: []Sample{NewSample(name, 0)}}, nil
}
