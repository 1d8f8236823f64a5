//go:build !wasip1

package kv

import (
	"time"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/native"
)

func get(key string) ([]byte, bool) {
	if native.Current == nil {
		return nil, false
	}
	return native.Current.Get(key)
}

func set(key string, value []byte, time time.Duration) error {
	if native.Current == nil {
		return plugin.Failed.Errorf("%w", native.ErrNone)
	}
	return native.Current.Set(key, value, time)
}

func remove(key string) {
	if native.Current != nil {
		native.Current.Delete(key)
	}
}

func keys(prefix string) []string {
	if native.Current == nil {
		return nil
	}
	return native.Current.Keys(prefix)
}
