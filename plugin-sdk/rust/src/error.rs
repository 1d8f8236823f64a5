//! How the errors of [`http`](crate::http) and [`tcp`](crate::tcp), which are alike, become the plugin's own. The other
//! capabilities' conversions are in their own files.

macro_rules! like_the_plugins {
    ($($capability:ident)*) => {$(
        impl From<crate::$capability::Error> for crate::Error {
            fn from(error: crate::$capability::Error) -> Self {
                match error {
                    crate::$capability::Error::Denied(text) => Self::Denied(text),
                    crate::$capability::Error::Unreachable(text) => Self::Unreachable(text),
                    crate::$capability::Error::Failed(text) => Self::Failed(text),
                    // A setting that was passed on unchecked, if it is not a bug in the plugin.
                    crate::$capability::Error::Invalid(text) => Self::Misconfigured(text),
                }
            }
        }
    )*};
}

like_the_plugins! { http tcp }

#[cfg(test)]
mod tests {
    use crate::{Error, http, tcp};

    #[test]
    fn an_invalid_request_is_blamed_on_the_settings_and_every_other_error_stays_what_it_is() {
        let text = || "why".to_owned();
        for (of_http, of_tcp, expected) in [
            (http::Error::Denied(text()), tcp::Error::Denied(text()), Error::Denied(text())),
            (http::Error::Unreachable(text()), tcp::Error::Unreachable(text()), Error::Unreachable(text())),
            (http::Error::Failed(text()), tcp::Error::Failed(text()), Error::Failed(text())),
            (http::Error::Invalid(text()), tcp::Error::Invalid(text()), Error::Misconfigured(text())),
        ] {
            assert_eq!((Error::from(of_http), Error::from(of_tcp)), (expected.clone(), expected));
        }
    }
}
