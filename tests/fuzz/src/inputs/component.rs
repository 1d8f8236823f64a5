//! The bytes of a component, as far as they are read before it is compiled.

use sandbox::load::check_header;
use sandbox::needs::{Needs, count};
use wasaba_core::limits::Limits;

/// Its first bytes, and what its instances take.
pub fn needs(data: &[u8]) {
    check_header(data).ok();
    let Ok(needs) = count(data) else { return };
    assert_eq!(count(data).ok(), Some(needs), "a count differs from the next");
    assert_eq!(Needs::split(&needs.to_bytes()), Some((needs, &[][..])));
    let limits = Limits::default();
    let is_within = needs.instances <= limits.instances as u64
        && needs.memory_bytes <= limits.memory_bytes as u64
        && needs.table_elements <= limits.table_elements as u64;
    assert_eq!(needs.check(&limits).is_ok(), is_within, "{needs:?}");
}
