//! The container that the agent may be in: how it knows its own image, and what is not for the programs that it starts there.

/// The variable that tells the agent that it is in its image.
pub const MARK: &str = "WASABA_CONTAINER";

/// The variables of the image whose values are secrets, or lead to them.
pub const SECRETS: [&str; 2] = ["apikey", "apikey_file"];

/// Whether this is a container of our image.
#[must_use]
pub fn is_ours() -> bool {
    std::env::var_os(MARK).is_some_and(|value| !value.is_empty())
}
