//! The allocator of the static program.
//!
//! The program's C library (musl) maps and unmaps pages for a handful of small blocks at a time, which was a quarter of the cost of
//! collecting Docker's metrics. So small blocks come from dlmalloc, which keeps a heap. Large ones, mainly the memory and stacks of
//! plugins, stay with the C library: each has its own mapping, which is zeroed and is returned to the kernel when it is freed.

use std::alloc::{GlobalAlloc, Layout, System};

use dlmalloc::GlobalDlmalloc;

/// The size in bytes from which musl gives each block its own mapping (its `MMAP_THRESHOLD`).
const LARGE_BYTES: usize = 128 << 10;

/// dlmalloc for small blocks, the C library for large ones.
pub struct Allocator;

#[expect(unsafe_code, reason = "an allocator is unsafe by its nature; see SAFETY")]
// SAFETY: both halves are allocators. Every call states the size of its block, so a block is always returned to the half that allocated
// it; one that grows or shrinks across the limit is copied into a new block of the other half, up to the smaller of both sizes.
unsafe impl GlobalAlloc for Allocator {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        unsafe { if is_large(layout.size()) { System.alloc(layout) } else { GlobalDlmalloc.alloc(layout) } }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        unsafe {
            if is_large(layout.size()) { System.alloc_zeroed(layout) } else { GlobalDlmalloc.alloc_zeroed(layout) }
        }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        unsafe {
            if is_large(layout.size()) { System.dealloc(block, layout) } else { GlobalDlmalloc.dealloc(block, layout) }
        }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        unsafe {
            match (is_large(layout.size()), is_large(size)) {
                (true, true) => System.realloc(block, layout, size),
                (false, false) => GlobalDlmalloc.realloc(block, layout, size),
                _ => {
                    let new = self.alloc(Layout::from_size_align_unchecked(size, layout.align()));
                    if !new.is_null() {
                        block.copy_to_nonoverlapping(new, layout.size().min(size));
                        self.dealloc(block, layout);
                    }
                    new
                }
            }
        }
    }
}

const fn is_large(size: usize) -> bool {
    size >= LARGE_BYTES
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_keeps_its_content_when_it_grows_and_shrinks_across_the_limit() {
        let sizes =
            [10, LARGE_BYTES - 1, LARGE_BYTES, 3 * LARGE_BYTES, LARGE_BYTES, LARGE_BYTES - 1, 7, 5 * LARGE_BYTES];
        let layout = |size| Layout::from_size_align(size, 16).unwrap();
        #[expect(unsafe_code, reason = "calls the allocator as the language does")]
        // SAFETY: each block is passed with its real size, read and written within it, and freed once.
        unsafe {
            let mut block = Allocator.alloc_zeroed(layout(sizes[0]));
            let mut filled = 0;
            for (index, size) in sizes.into_iter().enumerate() {
                let before = sizes[index.saturating_sub(1)];
                block = Allocator.realloc(block, layout(before), size);
                assert!(!block.is_null() && block.align_offset(16) == 0);
                filled = size.min(filled);
                assert!((0..filled).all(|at| *block.add(at) == at as u8), "{before} to {size}");
                (0..size).for_each(|at| *block.add(at) = at as u8);
                filled = size;
            }
            Allocator.dealloc(block, layout(sizes[sizes.len() - 1]));
            let zeroed = Allocator.alloc_zeroed(layout(LARGE_BYTES));
            assert!((0..LARGE_BYTES).all(|at| *zeroed.add(at) == 0));
            Allocator.dealloc(zeroed, layout(LARGE_BYTES));
        }
    }
}
