//! Settings as a struct: what `#[derive(Settings)]` makes of it.

use std::fmt;
use std::time::Duration;

use crate::settings::{duration, known};
use crate::{Error, Secret, Setting, Settings, misconfigured};

/// A struct that an instance's settings are read into, and that declares them. `#[derive(Settings)]` implements it, so that a name is written
/// once:
///
/// ```
/// use std::time::Duration;
///
/// use wasaba_plugin::prelude::*;
///
/// #[derive(Settings)]
/// struct Config {
///     /// page with the queue's state as JSON
///     #[url(default = "http://localhost:7070/stats")]
///     url: String,
///     /// sent as the header x-token
///     token: Option<Secret>,
///     /// how long to wait for the page
///     #[setting(default = "5s")]
///     patience: Duration,
///     /// which queues to read; all, if there is none
///     queue: Vec<String>,
///     /// what is counted
///     #[text(default = "jobs", one_of = ["jobs", "bytes"])]
///     unit: String,
///     #[host(default = "localhost", help = "where the queue listens")]
///     host: String,
///     /// where the queue listens
///     #[port(of = host, default = 5672)]
///     port: u16,
/// }
///
/// fn describe() -> Plugin {
///     Plugin::new("queue", "1.0.0", "jobs in the queue").settings::<Config>()
/// }
/// # let config = Config::from_settings(Settings::from([("queue", "a"), ("queue", "b"), ("port", "80")])).unwrap();
/// # assert_eq!((config.queue.len(), config.port, config.patience), (2, 80, Duration::from_secs(5)));
/// # assert_eq!(describe().into_description().settings.len(), 7);
/// # let unit = Config::from_settings(Settings::from([("unit", "job")])).map(drop);
/// # assert_eq!(unit, Err(misconfigured!("unknown value \"job\" in `unit`, did you mean \"jobs\"? valid: jobs, bytes")));
/// # let port = Config::from_settings(Settings::from([("port", "x")])).map(drop);
/// # assert_eq!(port, Err(misconfigured!("invalid value \"x\" in `port`: use a whole number from 0 to 65535")));
/// # assert_eq!((config.url.as_str(), config.unit.as_str(), config.host.as_str()), ("http://localhost:7070/stats", "jobs", "localhost"));
/// # assert!(config.token.is_none());
/// ```
///
/// A field `tls_mode` is the setting `tls-mode`, and its doc comment is the help for the operator: one sentence in lower case. An `Option` is optional
/// (an empty text counts as none), a `Vec` repeatable, and what is neither and has no default is required. The kind is that of the type (`String`: text,
/// [`Secret`], `bool`, integers, `f64`, `Duration`, [`Endpoint`]), or the attribute above the field, in the words of [`Setting`]: `text`, `secret`,
/// `integer`, `number`, `boolean`, `duration`, `url`, `endpoint`, `host`, `port`, `unix_socket`, `file`, `tls_skip_verify`, `tls_mode`. In its parentheses, or in those of
/// `setting`, stand `default`, `one_of` (for a text), `of` (for a port: the field with its host), `aliases` (for `tls_mode`: `["require=encrypt"]`), `key` and `help`.
///
/// Functions that are passed to [`export!`](crate::export) take the struct in place of [`Settings`](struct@Settings).
pub trait FromSettings: Sized {
    /// The declarations, for [`Plugin::settings`](crate::Plugin::settings).
    fn declared() -> Vec<Setting>;

    /// Reads what the operator wrote.
    ///
    /// # Errors
    /// [`Error::Misconfigured`] with the name of the setting that is missing or invalid.
    fn from_settings(settings: Settings) -> Result<Self, Error>;

    /// Reads the fields that only the agent goes by, or `Parts`, so that the compiler does not call them unused.
    #[doc(hidden)]
    fn of_agent(&self) {}
}

/// As they are, read by their names.
impl FromSettings for Settings {
    fn declared() -> Vec<Setting> {
        Vec::new()
    }

    fn from_settings(settings: Settings) -> Result<Self, Error> {
        Ok(settings)
    }
}

/// The type of a setting's value.
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not the type of a setting",
    label = "cannot be read from a setting",
    note = "a setting is a `String`, `Secret`, `bool`, an integer, `f64`, `Duration` or `Endpoint`, or an `Option` or `Vec` of one"
)]
pub trait FromSetting: Sized {
    /// Reads it.
    ///
    /// # Errors
    /// What would be valid, for the operator: `use true or false`.
    fn from_text(text: &str) -> Result<Self, String>;

    /// Takes it, if it is a secret.
    #[doc(hidden)]
    fn from_secret(_: &Secret) -> Option<Self> {
        None
    }
}

impl FromSetting for String {
    fn from_text(text: &str) -> Result<Self, String> {
        Ok(text.to_owned())
    }
}

impl FromSetting for Secret {
    fn from_text(_: &str) -> Result<Self, String> {
        Err("the plugin declares it as another kind than secret".to_owned())
    }

    fn from_secret(secret: &Secret) -> Option<Self> {
        Some(secret.clone())
    }
}

impl FromSetting for bool {
    fn from_text(text: &str) -> Result<Self, String> {
        text.parse().map_err(|_| "use true or false".to_owned())
    }
}

impl FromSetting for Duration {
    fn from_text(text: &str) -> Result<Self, String> {
        duration(text).ok_or_else(|| "use one like 500ms, 10s or 5m".to_owned())
    }
}

macro_rules! numbers {
    ($($type:ty)*) => {$(
        impl FromSetting for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().map_err(|_| format!("use a whole number from {} to {}", Self::MIN, Self::MAX))
            }
        }
    )*};
}

numbers!(u8 u16 u32 u64 usize i8 i16 i32 i64 isize);

macro_rules! floats {
    ($($type:ty)*) => {$(
        impl FromSetting for $type {
            fn from_text(text: &str) -> Result<Self, String> {
                text.parse().ok().filter(|number: &Self| number.is_finite()).ok_or_else(|| "use a number like 0.5".to_owned())
            }
        }
    )*};
}

floats!(f32 f64);

/// A host and a port, of a setting of kind `endpoint`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    /// A name or an address.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromSetting for Endpoint {
    fn from_text(text: &str) -> Result<Self, String> {
        let read = || {
            let (host, port) = text.rsplit_once(':')?;
            Some(Self { host: host.to_owned(), port: port.parse().ok()? })
        };
        read().filter(|endpoint| !endpoint.host.is_empty()).ok_or_else(|| "use a host and a port, db:5432".to_owned())
    }
}

impl fmt::Display for Endpoint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}", self.host, self.port)
    }
}

fn invalid(key: &str, text: &str, valid: &str) -> Error {
    misconfigured!("invalid value {text:?} in `{key}`: {valid}")
}

/// For the derive alone, which has declared each key that it reads.
#[doc(hidden)]
impl Settings {
    pub fn read_one<T: FromSetting>(&self, key: &str, default: Option<&str>, valid: &[&str]) -> Result<T, Error> {
        let Some(value) = self.value(key) else {
            return match default {
                Some(text) => read(key, text, valid),
                None => Err(misconfigured!("`{key}` is not set")),
            };
        };
        match value.secret() {
            Some(secret) => T::from_secret(secret).ok_or_else(|| invalid(key, "", "it is a secret")),
            None => read(key, value.text().unwrap_or_default(), valid),
        }
    }

    pub fn read_optional<T: FromSetting>(
        &self,
        key: &str,
        _: Option<&str>,
        valid: &[&str],
    ) -> Result<Option<T>, Error> {
        let is_there = |value: &crate::settings::Value| match value.secret() {
            Some(secret) => secret.length() > 0,
            None => value.text().is_some_and(|text| !text.is_empty()),
        };
        self.value(key).filter(|value| is_there(value)).map(|_| self.read_one(key, None, valid)).transpose()
    }

    pub fn read_several<T: FromSetting>(
        &self,
        key: &str,
        default: Option<&str>,
        valid: &[&str],
    ) -> Result<Vec<T>, Error> {
        let mut all = Vec::new();
        for value in self.values(key) {
            all.push(match value.secret() {
                Some(secret) => T::from_secret(secret).ok_or_else(|| invalid(key, "", "it is a secret"))?,
                None => read(key, value.text().unwrap_or_default(), valid)?,
            });
        }
        match default {
            Some(text) if all.is_empty() => Ok(vec![read(key, text, valid)?]),
            _ => Ok(all),
        }
    }
}

fn read<T: FromSetting>(key: &str, text: &str, valid: &[&str]) -> Result<T, Error> {
    if !valid.is_empty() {
        known(key, text, valid)?;
    }
    T::from_text(text).map_err(|valid| invalid(key, text, &valid))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate as wasaba_plugin;

    #[derive(Debug, wasaba_plugin::Settings)]
    struct Config {
        name: String,
        #[setting(default = -1)]
        level: i8,
        share: Option<f64>,
        is_on: Option<bool>,
        server: Vec<Endpoint>,
        #[text(default = "a", one_of = ["a", "b"])]
        more: Vec<String>,
    }

    fn read(pairs: &[(&str, &str)]) -> Result<Config, Error> {
        let pairs = pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned()));
        Config::from_settings(pairs.collect::<Vec<_>>().into())
    }

    #[test]
    fn what_is_not_written_has_its_default_or_is_none() {
        let config = read(&[("name", "x"), ("share", "")]).unwrap();
        assert_eq!((config.name.as_str(), config.level, config.share, config.is_on), ("x", -1, None, None));
        assert_eq!((config.server, config.more), (Vec::new(), vec!["a".to_owned()]));
        let config =
            read(&[("name", ""), ("share", "0.5"), ("is-on", "true"), ("server", "a:1"), ("server", "[::1]:2")]);
        let config = config.unwrap();
        assert_eq!((config.name.as_str(), config.share, config.is_on), ("", Some(0.5), Some(true)));
        assert_eq!(config.server.iter().map(Endpoint::to_string).collect::<Vec<_>>(), ["a:1", "[::1]:2"]);
    }

    #[test]
    fn a_value_that_cannot_be_read_is_named_with_what_is_valid() {
        for (pairs, expected) in [
            (&[("level", "1")][..], "`name` is not set"),
            (
                &[("name", ""), ("level", "200")],
                "invalid value \"200\" in `level`: use a whole number from -128 to 127",
            ),
            (&[("name", ""), ("share", "nan")], "invalid value \"nan\" in `share`: use a number like 0.5"),
            (&[("name", ""), ("is-on", "yes")], "invalid value \"yes\" in `is-on`: use true or false"),
            (&[("name", ""), ("server", ":1")], "invalid value \":1\" in `server`: use a host and a port, db:5432"),
            (&[("name", ""), ("more", "c")], "unknown value \"c\" in `more`, did you mean \"a\"? valid: a, b"),
        ] {
            assert_eq!(read(pairs).unwrap_err(), misconfigured!("{expected}"));
        }
    }
}
