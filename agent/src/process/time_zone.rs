//! The time zone of the log: that of `TZ` as the C library reads it, else the machine's. The program has no zones of its own; it reads
//! those of the system, or of a host whose `/` is mounted.

use std::path::{Path, PathBuf};

use jiff::Timestamp;
use jiff::tz::TimeZone;
use wasaba_core::paths::named;

/// The zone of a machine where `TZ` is not set.
const OF_MACHINE: &str = "/etc/localtime";

/// Where systems have the files of zones.
const FOLDERS: [&str; 3] = ["/usr/share/zoneinfo", "/share/zoneinfo", "/etc/zoneinfo"];

/// A zone has a few kilobytes.
const LARGEST: u64 = 256 << 10;

/// The zone of this process; and what is wrong with `TZ`, if it names none: then the zone is UTC. `host` is where a host's `/` is mounted.
pub(super) fn of_this_process(host: Option<&Path>) -> (TimeZone, Option<String>) {
    let folders = match std::env::var_os("TZDIR") {
        Some(folder) => vec![PathBuf::from(folder)],
        None => FOLDERS.iter().map(PathBuf::from).chain(host.map(|host| host.join("usr/share/zoneinfo"))).collect(),
    };
    let read = |file: &Path| named::read(file, LARGEST).ok();
    match zone(std::env::var("TZ").ok().as_deref(), &folders, read) {
        Ok(zone) => (zone, None),
        Err(why) => (TimeZone::UTC, Some(why)),
    }
}

/// A time as the log shows it, `2026/11/24 10:00:00+09:00`, or with a `Z` in UTC.
pub(super) fn shown(time: Timestamp, zone: &TimeZone) -> String {
    let offset = zone.to_offset(time);
    let time = offset.to_datetime(time).strftime("%Y/%m/%d %H:%M:%S");
    let minutes = offset.seconds() / 60;
    match (minutes.is_negative(), minutes.unsigned_abs()) {
        (_, 0) => format!("{time}Z"),
        (is_west, minutes) => {
            format!("{time}{}{:02}:{:02}", if is_west { '-' } else { '+' }, minutes / 60, minutes % 60)
        }
    }
}

/// The zone that `tz`, the value of `TZ`, names: a file below one of `folders`, the path of a file, or a rule like `JST-9`.
fn zone(tz: Option<&str>, folders: &[PathBuf], read: impl Fn(&Path) -> Option<Vec<u8>>) -> Result<TimeZone, String> {
    let parsed = |file: PathBuf| TimeZone::tzif("", &read(&file)?).ok();
    let Some(tz) = tz else { return Ok(parsed(OF_MACHINE.into()).unwrap_or(TimeZone::UTC)) };
    let name = tz.strip_prefix(':').unwrap_or(tz);
    // With or without its file, this is UTC.
    if matches!(name, "" | "UTC" | "GMT" | "Etc/UTC" | "Etc/GMT") {
        return Ok(TimeZone::UTC);
    }
    // A path stays one behind any folder.
    let found = folders.iter().find_map(|folder| parsed(folder.join(name)));
    found.or_else(|| TimeZone::posix(name).ok()).ok_or_else(|| {
        let places = folders.iter().map(|folder| format!("`{}`", folder.display())).collect::<Vec<_>>().join(", ");
        let cure = "install tzdata, mount /usr/share/zoneinfo into the container, or write an offset, like TZ=JST-9";
        format!("the times of the log are in UTC: TZ is {tz:?}, and there is no such time zone in {places}; {cure}")
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Japan's zone as `zic` writes it for the present: nine hours east of UTC.
    fn tokyo() -> Vec<u8> {
        let header = |data: &[u8]| {
            let mut text = b"TZif2".to_vec();
            text.extend([0; 15]);
            // Counts: UT and standard indicators, leap seconds, transitions, types, characters.
            text.extend([0_u32, 0, 0, 0, 1, 4].iter().flat_map(|count| count.to_be_bytes()));
            text.extend(data);
            text
        };
        let mut zone = 32_400_i32.to_be_bytes().to_vec();
        zone.extend(b"\0\0JST\0");
        [header(&zone), header(&zone), b"\nJST-9\n".to_vec()].concat()
    }

    /// 1970-01-01T00:00:00Z and the summer after, where there are these files.
    fn times(tz: Option<&str>, files: &[&str]) -> Result<[String; 2], String> {
        let read = |file: &Path| files.iter().any(|known| Path::new(known) == file).then(tokyo);
        let zone = zone(tz, &["/usr/share/zoneinfo".into(), "/host/usr/share/zoneinfo".into()], read)?;
        Ok([0, 15_552_000].map(|second| shown(Timestamp::from_second(second).unwrap(), &zone)))
    }

    #[test]
    fn the_log_has_local_time_with_its_offset() {
        const UTC: [&str; 2] = ["1970/01/01 00:00:00Z", "1970/06/30 00:00:00Z"];
        const JAPAN: [&str; 2] = ["1970/01/01 09:00:00+09:00", "1970/06/30 09:00:00+09:00"];
        const FILE: &[&str] = &["/usr/share/zoneinfo/Asia/Tokyo"];
        for (tz, files, expected) in [
            (Some("Asia/Tokyo"), FILE, JAPAN),
            (Some(":Asia/Tokyo"), FILE, JAPAN),
            (Some("Asia/Tokyo"), &["/host/usr/share/zoneinfo/Asia/Tokyo"], JAPAN),
            (Some("/usr/share/zoneinfo/Asia/Tokyo"), FILE, JAPAN),
            // syslog-ng/syslog-ng#1581: the path of the machine's zone.
            (Some("/etc/localtime"), &["/etc/localtime"], JAPAN),
            (None, &["/etc/localtime"], JAPAN),
            (None, FILE, UTC),
            (Some(""), FILE, UTC),
            (Some("UTC"), &[], UTC),
            (Some("Etc/UTC"), &[], UTC),
            (Some("JST-9"), &[], JAPAN),
            (Some("<+0545>-5:45"), &[], ["1970/01/01 05:45:00+05:45", "1970/06/30 05:45:00+05:45"]),
            (Some("NST3:30"), &[], ["1969/12/31 20:30:00-03:30", "1970/06/29 20:30:00-03:30"]),
            // gliderlabs/docker-alpine#113: the rule of Madrid, in an image without zones.
            (Some("CET-1CEST,M3.5.0,M10.5.0/3"), &[], ["1970/01/01 01:00:00+01:00", "1970/06/30 02:00:00+02:00"]),
        ] {
            assert_eq!(times(tz, files).unwrap(), expected, "{tz:?}");
        }
    }

    /// dani-garcia/vaultwarden#1197, erigontech/erigon#1892: `TZ` in an image without zones was UTC without a word.
    #[test]
    fn a_zone_that_does_not_exist_is_utc_and_said_to_be() {
        for tz in ["Europe/Amsterdam", "Asia/Tokio", "\"Asia/Tokyo\"", "/etc/localtime"] {
            let why = times(Some(tz), &["/usr/share/zoneinfo/Asia/Tokyo"]).unwrap_err();
            assert!(why.starts_with("the times of the log are in UTC: TZ is ") && why.contains("TZ=JST-9"), "{why}");
        }
    }
}
