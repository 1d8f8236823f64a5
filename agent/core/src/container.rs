//! The container that the agent may run in: how it recognizes its own image, and which variables the programs that it starts
//! there do not get.

/// The variable that marks the agent's image.
pub const MARK: &str = "WASABA_CONTAINER";

/// The variables of the image whose values are secrets, files with secrets, or flags among which a secret may be.
pub const SECRETS: [&str; 3] = ["apikey", "apikey_file", "opts"];

/// Whether this is a container of the agent's image.
#[must_use]
pub fn is_ours() -> bool {
    std::env::var_os(MARK).is_some_and(|value| !value.is_empty())
}
