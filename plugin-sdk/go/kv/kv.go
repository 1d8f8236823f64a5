// Package kv is small values that an instance keeps from call to call. What a call sets is saved when the call succeeds.
package kv

import (
	"encoding/binary"
	"time"
)

// Get returns the value of key, and whether there is one.
func Get(key string) ([]byte, bool) { return get(key) }

// Set sets the value of key.
func Set(key string, value []byte) error { return set(key, value, 0) }

// SetFor sets the value of key, which is gone after this time.
func SetFor(key string, value []byte, time time.Duration) error {
	return set(key, value, max(time, 1))
}

// Delete deletes key, if it is there.
func Delete(key string) { remove(key) }

// Keys returns all keys that begin with prefix, sorted.
func Keys(prefix string) []string { return keys(prefix) }

// Growth returns how much each of these counters has grown since the previous call, for values that are computed from several of them,
// such as a ratio. It is nil in the first call, and when a counter was reset, as by a restart of its server.
func Growth(key string, now ...uint64) ([]uint64, error) {
	before, _ := get(key)
	var bytes []byte
	for _, number := range now {
		bytes = binary.LittleEndian.AppendUint64(bytes, number)
	}
	if err := set(key, bytes, 0); err != nil {
		return nil, err
	}
	if len(before) != len(bytes) {
		return nil, nil
	}
	grown := make([]uint64, len(now))
	for index, number := range now {
		last := binary.LittleEndian.Uint64(before[8*index:])
		if number < last {
			return nil, nil
		}
		grown[index] = number - last
	}
	return grown, nil
}
