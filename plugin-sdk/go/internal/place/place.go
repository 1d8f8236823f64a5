// Package place finds the line of the plugin author's code that led to a call of the SDK.
package place

import (
	"path"
	"runtime"
	"strconv"
	"strings"
)

const sdk = "wasaba.dev/plugin"

// Of returns "main.go:31: ", or "" if it cannot be found. In a deferred function it is the line that panicked.
func Of() string {
	var counters [64]uintptr
	frames := runtime.CallersFrames(counters[:runtime.Callers(2, counters[:])])
	var nearest string
	for {
		frame, more := frames.Next()
		if strings.HasPrefix(frame.Function, "main.") {
			return line(frame)
		}
		if nearest == "" && !skipped(frame.Function) {
			nearest = line(frame)
		}
		if !more {
			return nearest
		}
	}
}

func skipped(function string) bool {
	for _, prefix := range []string{"runtime.", "reflect.", "testing.", sdk} {
		if strings.HasPrefix(function, prefix) && !strings.Contains(function, "_test.") {
			return true
		}
	}
	return false
}

func line(frame runtime.Frame) string {
	if frame.File == "" {
		return ""
	}
	return path.Base(strings.ReplaceAll(frame.File, "\\", "/")) + ":" + strconv.Itoa(frame.Line) + ": "
}
