//! The allocator of the static program.
//!
//! The program's C library (musl) maps and unmaps pages for a handful of small blocks at a time, which was a quarter of the cost of
//! collecting Docker's metrics. So small blocks come from dlmalloc, which keeps a heap. Large ones, mainly the memory and stacks of
//! plugins, stay with the C library: each has its own mapping, which is zeroed and is returned to the kernel when it is freed.
//!
//! A heap whose blocks are freed in another order than they came keeps nearly all of its pages, for the few blocks that are left between
//! them. [`give_back`] returns them.

use std::alloc::{GlobalAlloc, Layout, System};
use std::ffi::c_void;
use std::ops::Range;

use dlmalloc::GlobalDlmalloc;
use rustix::mm::{Advice, madvise};

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

const PAGE_BYTES: usize = 4096;

/// The free room of the heap is looked for with blocks of these sizes, in bytes. Where other mappings are between its parts, a part has 64 KiB.
/// Smaller blocks would cost more pages, for their beginnings, than they find.
const PIECES: [usize; 3] = [120 << 10, 60 << 10, 28 << 10];

/// At most so many of a size.
const MOST_PIECES: usize = 4096;

/// Returns the pages of free small blocks to the kernel. Takes about a millisecond for each 10 MB of them.
///
/// The free room is what can be allocated before the heap grows: within the addresses that are mapped already, which `mapped` returns in
/// their order.
pub fn give_back(mapped: impl Fn() -> Vec<Range<usize>>) {
    for size in PIECES {
        let Ok(layout) = Layout::from_size_align(size, 16) else { continue };
        let mut pieces = Vec::with_capacity(MOST_PIECES);
        let before = mapped();
        while pieces.len() < MOST_PIECES {
            #[expect(unsafe_code, reason = "calls the allocator as the language does")]
            // SAFETY: the layout has a size.
            let piece = unsafe { GlobalDlmalloc.alloc(layout) };
            if piece.is_null() {
                break;
            }
            pieces.push(piece);
            let at = before.partition_point(|range| range.end <= piece.addr());
            if !before.get(at).is_some_and(|range| range.start <= piece.addr() && piece.addr() + size <= range.end) {
                break;
            }
        }
        for piece in pieces {
            let begin = piece.addr().next_multiple_of(PAGE_BYTES);
            let end = (piece.addr() + size) / PAGE_BYTES * PAGE_BYTES;
            #[expect(
                unsafe_code,
                reason = "advising the kernel on memory, and freeing it, are unsafe by their nature; see SAFETY"
            )]
            // SAFETY: the block is this function's own, no one reads it, and the range is of whole pages within it; it was allocated with
            // this layout, and is freed once.
            unsafe {
                madvise(piece.with_addr(begin).cast::<c_void>(), end - begin, Advice::LinuxDontNeed).ok();
                GlobalDlmalloc.dealloc(piece, layout);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// How many pages are in memory.
    fn resident() -> usize {
        let text = std::fs::read_to_string("/proc/self/statm").unwrap();
        text.split(' ').nth(1).unwrap().parse().unwrap()
    }

    #[test]
    #[expect(unsafe_code, reason = "calls the allocator as the language does")]
    fn a_heap_of_which_few_blocks_are_left_gives_its_pages_back_and_keeps_those_blocks() {
        // SAFETY: each block is written within its size, and freed once.
        unsafe {
            let sizes = (0..20_000_usize).map(|number| 40 + number * 7919 % 12_000);
            let layout = |size| Layout::from_size_align(size, 16).unwrap();
            let mut left = Vec::new();
            let mut blocks = Vec::new();
            for (number, size) in sizes.enumerate() {
                let block = GlobalDlmalloc.alloc(layout(size));
                block.write_bytes(number as u8, size);
                if number % 100 == 0 { left.push((block, size, number as u8)) } else { blocks.push((block, size)) }
            }
            for (block, size) in blocks {
                GlobalDlmalloc.dealloc(block, layout(size));
            }
            let full = resident();
            give_back(super::super::footprint::mapped);
            let rest = resident();
            // Of some 120 MB. Other tests take and free memory meanwhile.
            assert!(rest + 20_000 < full, "{rest} pages of {full}");
            for (block, size, filled) in left {
                assert!((0..size).all(|at| *block.add(at) == filled));
                GlobalDlmalloc.dealloc(block, layout(size));
            }
        }
    }

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
