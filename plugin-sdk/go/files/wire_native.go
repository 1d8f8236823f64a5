//go:build !wasip1

package files

import (
	"time"

	"wasaba.dev/plugin"
	"wasaba.dev/plugin/internal/native"
)

type file []byte

func open(path string) (file, error) {
	if native.Current == nil {
		return nil, plugin.Failed.Errorf("%w", native.ErrNone)
	}
	return native.Current.Open(path)
}

func (f file) stat() (Stat, error) {
	return Stat{Size: uint64(len(f)), Modified: time.Unix(0, 0), ID: 1}, nil
}

func (f file) readAt(offset uint64, maxBytes uint32) ([]byte, error) {
	if offset > uint64(len(f)) {
		return nil, nil
	}
	rest := f[offset:]
	return rest[:min(uint64(len(rest)), uint64(maxBytes))], nil
}

func (f file) close() {}
