//go:build wasip1

package runtime

import (
	"fmt"
	"runtime"
	"unsafe"
)

type Handle struct {
	value int32
}

func (h *Handle) Use() int32 {
	if h.value == 0 {
		panic("nil handle")
	}
	return h.value
}

func (h *Handle) Take() int32 {
	if h.value == 0 {
		panic("nil handle")
	}
	value := h.value
	h.value = 0
	return value
}

func (h *Handle) Set(value int32) {
	if value == 0 {
		panic("nil handle")
	}
	if h.value != 0 {
		panic("handle already set")
	}
	h.value = value
}

func (h *Handle) TakeOrNil() int32 {
	value := h.value
	h.value = 0
	return value
}

func MakeHandle(value int32) *Handle {
	if value == 0 {
		panic("nil handle")
	}
	return &Handle{value}
}

func Allocate(pinner *runtime.Pinner, size, align uintptr) unsafe.Pointer {
	pointer := allocateRaw(size, align)
	pinner.Pin(pointer)
	return pointer
}

func allocateRaw(size, align uintptr) unsafe.Pointer {
	if size == 0 {
		return nil
	}

	if size%align != 0 {
		panic(fmt.Sprintf("size %v is not compatible with alignment %v", size, align))
	}

	switch align {
	case 1:
		return unsafe.Pointer(unsafe.SliceData(make([]uint8, size)))
	case 2:
		return unsafe.Pointer(unsafe.SliceData(make([]uint16, size/align)))
	case 4:
		return unsafe.Pointer(unsafe.SliceData(make([]uint32, size/align)))
	case 8:
		return unsafe.Pointer(unsafe.SliceData(make([]uint64, size/align)))
	default:
		panic(fmt.Sprintf("unsupported alignment: %v", align))
	}
}

// NB: `cabi_realloc` may be called before the Go runtime has been initialized,
// in which case we need to use `runtime.sbrk` to do allocations.  The following
// is an abbreviation of [Till's
// efforts](https://github.com/bytecodealliance/go-modules/pull/367).

//go:linkname sbrk runtime.sbrk
func sbrk(n uintptr) unsafe.Pointer

//nolint:unused
func offset(ptr, align uintptr) uintptr {
	newptr := (ptr + align - 1) &^ (align - 1)
	return newptr - ptr
}

// Unpin is called by the generated exports, when they have read their arguments. Nothing is pinned for these.
func Unpin() {}

// chunks are memory for what an import returns. It is never the garbage collector's: an allocation there could let another goroutine run,
// in the middle of a call of an import, where no other import may be called.
var chunks [64]struct {
	base       unsafe.Pointer
	size, used uintptr
}

// importing is whether chunks are in use: what is allocated then is copied before the end of the call.
var importing bool

// BeginImport begins a call of an import whose result has allocations.
func BeginImport() { importing = true }

// EndImport ends it, and frees what was allocated.
func EndImport() {
	importing = false
	for index := range chunks {
		chunks[index].used = 0
	}
}

const granule = 1 << 16

func allocateForImport(align, size uintptr) unsafe.Pointer {
	for index := range chunks {
		chunk := &chunks[index]
		if chunk.base == nil {
			chunk.size = (size + granule - 1) &^ (granule - 1)
			chunk.base = sbrk(chunk.size + granule)
			chunk.base = unsafe.Add(chunk.base, offset(uintptr(chunk.base), 16))
		}
		start := (chunk.used + align - 1) &^ (align - 1)
		if start+size <= chunk.size {
			chunk.used = start + size
			return unsafe.Add(chunk.base, start)
		}
	}
	panic("too many results at once")
}

//nolint:unused
//go:wasmexport cabi_realloc
func cabiRealloc(oldPointer unsafe.Pointer, oldSize, align, newSize uintptr) unsafe.Pointer {
	if oldPointer != nil || oldSize != 0 {
		panic("todo")
	}
	if importing {
		return allocateForImport(align, newSize)
	}
	// An export's arguments, or the adapter's own state: it lasts as long as the instance.
	alignedSize := newSize + offset(newSize, align)
	unaligned := sbrk(alignedSize + align)
	return unsafe.Add(unaligned, offset(uintptr(unaligned), align))
}
