//! The drop-ins of the systemd unit: which of them a configuration needs. The unit itself allows what the agent needs, and nothing that only
//! some configurations do.

use std::path::Path;

use config::document::{Level, Problem};

use super::Needs;

/// Where the packages install them.
const INSTALLED: &str = "/usr/share/wasaba/systemd";

/// Where systemd looks for them.
const ENABLED: &str = "/etc/systemd/system/wasaba.service.d";

/// Allows everything.
const ROOT: &str = "root";

impl Needs {
    /// The drop-ins that this needs, each with the reason.
    fn drop_ins(&self) -> Vec<(&'static str, String)> {
        let as_other = self.users.iter().map(|table| (ROOT, format!("{table} runs a program as another user")));
        let programs = self.programs.iter().map(|table| ("programs", format!("{table} runs a program")));
        let docker = self.engine_socket.iter().map(|socket| ("docker", format!("[docker] connects to {socket}")));
        // An agent that runs programs is not confined, and neither is its unit's memory.
        let native = self
            .native
            .iter()
            .filter(|_| self.programs.is_none())
            .map(|plugin| ("native", format!("the engine `native` of {plugin} makes code")));
        let logs = self.reads.iter().find(|folder| folder.starts_with("/var/log"));
        let logs = logs.map(|folder| ("logs", format!("a plugin is granted files in `{}`", folder.display())));
        as_other.chain(programs).chain(docker).chain(native).chain(logs).collect()
    }
}

/// A note for each drop-in that is needed, installed and not enabled, with what to type.
#[must_use]
pub(super) fn missing(needs: &Needs) -> Vec<Problem> {
    missing_in(needs, Path::new(INSTALLED), Path::new(ENABLED))
}

fn missing_in(needs: &Needs, installed: &Path, enabled: &Path) -> Vec<Problem> {
    let is_enabled = |name: &str| enabled.join(format!("{name}.conf")).exists();
    if is_enabled(ROOT) {
        return Vec::new();
    }
    let missing = needs
        .drop_ins()
        .into_iter()
        .filter(|(name, _)| installed.join(format!("{name}.conf")).exists() && !is_enabled(name));
    let missing = missing.map(|(name, why)| {
        let (from, to) = (installed.join(format!("{name}.conf")), enabled.join(format!("{name}.conf")));
        let text = format!(
            "{why}, which the systemd unit does not allow; enable its drop-in `{name}`: install -D -m 644 {} {} && systemctl daemon-reload && \
             systemctl restart wasaba",
            from.display(),
            to.display()
        );
        Problem::of_flag(Level::Note, text)
    });
    missing.collect()
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    fn needs() -> Needs {
        Needs {
            programs: Some("[plugin.checks.disk]".to_owned()),
            native: Some("plugin `heavy`".to_owned()),
            engine_socket: Some("/var/run/docker.sock".to_owned()),
            reads: ["/var/log/nginx".into(), "/srv".into()].into(),
            ..Needs::default()
        }
    }

    #[test]
    fn each_need_names_the_drop_in_that_allows_it_until_that_is_enabled() {
        let temp = tempfile::tempdir().unwrap();
        let (installed, enabled) = (temp.path().join("share"), temp.path().join("etc"));
        fs::create_dir_all(&installed).unwrap();
        fs::create_dir_all(&enabled).unwrap();
        let named = |needs: &Needs| {
            let notes = missing_in(needs, &installed, &enabled);
            notes
                .iter()
                .map(|note| note.to_string().split('`').nth_back(1).unwrap_or_default().to_owned())
                .collect::<Vec<_>>()
        };
        assert_eq!(named(&needs()), [""; 0], "there is no unit");
        for name in ["programs", "root", "docker", "native", "logs"] {
            fs::write(installed.join(format!("{name}.conf")), "").unwrap();
        }
        assert_eq!(named(&needs()), ["programs", "docker", "logs"], "`programs` allows what `native` does");
        assert_eq!(named(&Needs { programs: None, ..needs() }), ["docker", "native", "logs"]);
        assert_eq!(named(&Needs { users: Some("[plugin.checks.x]".to_owned()), ..Needs::default() }), ["root"]);
        assert_eq!(named(&Needs::default()), [""; 0]);
        fs::write(enabled.join("docker.conf"), "").unwrap();
        assert_eq!(named(&needs()), ["programs", "logs"]);
        fs::write(enabled.join("root.conf"), "").unwrap();
        assert_eq!(named(&needs()), [""; 0], "root.conf allows everything");
    }

    #[test]
    fn the_note_has_what_to_type() {
        let temp = tempfile::tempdir().unwrap();
        let installed = temp.path().join("share");
        fs::create_dir_all(&installed).unwrap();
        fs::write(installed.join("docker.conf"), "").unwrap();
        let [note] = &missing_in(&needs(), &installed, Path::new("/e"))[..] else { panic!("not exactly one note") };
        let expected = format!(
            "[docker] connects to /var/run/docker.sock, which the systemd unit does not allow; enable its drop-in `docker`: install -D -m 644 \
             {}/docker.conf /e/docker.conf && systemctl daemon-reload && systemctl restart wasaba",
            installed.display()
        );
        assert_eq!(note.to_string(), expected);
    }
}
