package kv

import (
	"bytes"
	"strings"
	"time"

	"wasaba.dev/plugin/internal/wire"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_kv"
)

func get(key string) ([]byte, bool) {
	wire.Enter()
	defer wire.Leave()
	value := wit.Get(key)
	return bytes.Clone(value.SomeOr(nil)), value.IsSome()
}

func set(key string, value []byte, time time.Duration) error {
	wire.Enter()
	defer wire.Leave()
	_, err := wire.Value(wit.Set(key, value, wire.Millis(time)))
	return err
}

func remove(key string) { wit.Delete(key) }

func keys(prefix string) []string {
	wire.Enter()
	defer wire.Leave()
	keys := wit.Keys(prefix)
	for index := range keys {
		keys[index] = strings.Clone(keys[index])
	}
	return keys
}
