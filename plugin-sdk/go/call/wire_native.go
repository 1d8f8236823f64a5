//go:build !wasip1

package call

import (
	"slices"
	"strings"
	"time"

	"wasaba.dev/plugin/internal/native"
)

func remaining() time.Duration {
	if native.Current == nil {
		return 10 * time.Second
	}
	return native.Current.Remaining()
}

func minute() uint64 {
	if native.Current == nil {
		return uint64(time.Now().Unix()) / 60 * 60
	}
	return native.Current.Minute()
}

func limit(name string) (uint64, bool) {
	if native.Current == nil {
		return 0, false
	}
	return native.Current.Limit(name)
}

func agentVersion() string { return "0.2.0" }

func has(feature string) bool {
	capability, _, _ := strings.Cut(feature, ".")
	return slices.Contains([]string{"http", "tcp", "kv", "log", "files", "crypto", "call"}, capability)
}
