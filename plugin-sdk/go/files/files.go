// Package files is reading the files that the operator granted by settings of kind file.
package files

import (
	"io"
	"time"

	"wasaba.dev/plugin"
)

// File is an open file. It stays the same one when its log is rotated. It is an io.Reader and an io.ReaderAt.
type File struct {
	wire   file
	offset int64
}

// Stat is what is known of an open file.
type Stat struct {
	// Size is in bytes.
	Size     uint64
	Modified time.Time
	// ID is which file it is: one that took its place has another.
	ID uint64
}

// Open opens the file, whose path is exactly as in the setting.
func Open(path string) (*File, error) {
	wire, err := open(path)
	if err != nil {
		return nil, err
	}
	return &File{wire: wire}, nil
}

// Stat returns its size, when it was modified, and which file it is.
func (f *File) Stat() (Stat, error) { return f.wire.stat() }

// ReadAt reads from offset on. It is io.EOF if there is less than fits.
func (f *File) ReadAt(into []byte, offset int64) (int, error) {
	read := 0
	for read < len(into) {
		bytes, err := f.wire.readAt(uint64(offset)+uint64(read), uint32(min(len(into)-read, 1<<20)))
		if err != nil {
			return read, err
		}
		if len(bytes) == 0 {
			return read, io.EOF
		}
		read += copy(into[read:], bytes)
	}
	return read, nil
}

// Read reads on from where the last Read ended.
func (f *File) Read(into []byte) (int, error) {
	if len(into) == 0 {
		return 0, nil
	}
	bytes, err := f.wire.readAt(uint64(f.offset), uint32(min(len(into), 1<<20)))
	if err != nil {
		return 0, err
	}
	if len(bytes) == 0 {
		return 0, io.EOF
	}
	f.offset += int64(len(bytes))
	return copy(into, bytes), nil
}

// Close closes it. The agent closes what is still open when a call ends.
func (f *File) Close() error {
	f.wire.close()
	return nil
}

// Read returns the whole file, if it has at most so many bytes.
func Read(path string, maxBytes int) ([]byte, error) {
	file, err := Open(path)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	whole, err := io.ReadAll(io.LimitReader(file, int64(maxBytes)+1))
	if err != nil {
		return nil, err
	}
	if len(whole) > maxBytes {
		return nil, plugin.TooLarge.Errorf("`%s` is larger than %d bytes", path, maxBytes)
	}
	return whole, nil
}
