package files

import (
	"time"

	"wasaba.dev/plugin/internal/wire"
	wit "wasaba.dev/plugin/internal/wit/imports/wasaba_plugin_files"
)

type file struct{ *wit.File }

func open(path string) (file, error) {
	wire.Enter()
	defer wire.Leave()
	opened, err := wire.Value(wit.FileOpen(path))
	return file{opened}, err
}

func (f file) stat() (Stat, error) {
	wire.Enter()
	defer wire.Leave()
	stat, err := wire.Value(f.Stat())
	return Stat{Size: stat.Size, Modified: time.UnixMilli(int64(stat.ModifiedMs)), ID: stat.Id}, err
}

func (f file) readAt(offset uint64, maxBytes uint32) ([]byte, error) {
	wire.Enter()
	defer wire.Leave()
	return wire.Bytes(f.ReadAt(offset, maxBytes))
}

func (f file) close() { f.Drop() }
