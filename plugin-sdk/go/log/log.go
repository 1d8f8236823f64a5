// Package log is lines in the agent's log, for what is not an error: errors are returned, and the agent logs them.
//
// The arguments are those of fmt.Printf. A slog.Handler is in wasaba.dev/plugin/log/handler.
package log

import (
	"encoding/binary"
	"fmt"
	"time"

	"wasaba.dev/plugin/kv"
)

// Debug writes a line that is logged only if the agent is verbose.
func Debug(format string, arguments ...any) { printf("debug", format, arguments) }

// Info writes a line that is always logged.
func Info(format string, arguments ...any) { printf("info", format, arguments) }

// Warning writes a problem that the operator should look into, although the values are still correct.
func Warning(format string, arguments ...any) { printf("warning", format, arguments) }

// Error writes what should have been returned as an error, but cannot be.
func Error(format string, arguments ...any) { printf("error", format, arguments) }

// WarningDaily is like [Warning], but at most once a day for each topic: for problems that persist until the operator acts.
func WarningDaily(topic, format string, arguments ...any) {
	const day = 24 * 60 * 60
	now := uint64(time.Now().Unix())
	key := "warned: " + topic
	if last, ok := kv.Get(key); ok && len(last) == 8 {
		// If the clock was set back, it counts as another day.
		if before := binary.LittleEndian.Uint64(last); before <= now && now-before < day {
			return
		}
	}
	Warning(format, arguments...)
	// If the store is full, the next call warns again: too often is better than not at all.
	_ = kv.Set(key, binary.LittleEndian.AppendUint64(nil, now))
}

func printf(level, format string, arguments []any) { write(level, fmt.Sprintf(format, arguments...)) }
