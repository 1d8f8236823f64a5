//! The filter of system calls (seccomp): a list of those that may be made; every other one fails with EPERM.

use std::collections::BTreeMap;

use libc::{c_int, c_long};
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter, SeccompRule,
    apply_filter_all_threads,
};

/// Calls that may be made, and with what.
#[derive(Default)]
pub struct Calls(BTreeMap<c_long, Vec<SeccompRule>>);

impl Calls {
    /// These, with any arguments.
    #[must_use]
    pub fn any(numbers: &[c_long]) -> Self {
        Self(numbers.iter().map(|number| (*number, Vec::new())).collect())
    }

    /// As before, and `number`, if its argument at `index` (from 0) has one of `values`, compared by its lower 32 bits.
    #[must_use]
    pub fn with(self, number: c_long, index: u8, values: &[c_int]) -> Self {
        let equal = |value: &c_int| (SeccompCmpOp::Eq, u64::from(value.cast_unsigned()));
        self.where_any(number, index, values.iter().map(equal))
    }

    /// As before, and `number`, if none of `bits` is set in its argument at `index` (from 0).
    #[must_use]
    pub fn without(self, number: c_long, index: u8, bits: c_int) -> Self {
        let unset = SeccompCmpOp::MaskedEq(u64::from(bits.cast_unsigned()));
        self.where_any(number, index, [(unset, 0)])
    }

    fn where_any(mut self, number: c_long, index: u8, any: impl IntoIterator<Item = (SeccompCmpOp, u64)>) -> Self {
        let rule = |(operator, value)| {
            let condition = SeccompCondition::new(index, SeccompCmpArgLen::Dword, operator, value).ok()?;
            SeccompRule::new(vec![condition]).ok()
        };
        // What is no rule is not allowed.
        let rules = any.into_iter().filter_map(rule).collect::<Vec<_>>();
        if !rules.is_empty() {
            self.0.insert(number, rules);
        }
        self
    }

    fn program(self) -> Option<BpfProgram> {
        let refused = SeccompAction::Errno(libc::EPERM.cast_unsigned());
        let architecture = std::env::consts::ARCH.try_into().ok()?;
        SeccompFilter::new(self.0, refused, SeccompAction::Allow, architecture).ok()?.try_into().ok()
    }

    /// Refuses every other call, for all threads of this process and all that they start. Needs
    /// [`no_new_privileges`](super::no_new_privileges).
    ///
    /// # Errors
    /// The kernel has no seccomp, or the calls of this architecture are not known.
    pub fn only(self) -> Result<(), String> {
        let program = self.program().ok_or("the system calls of this architecture are not known")?;
        apply_filter_all_threads(&program).map_err(|error| error.to_string())
    }
}
