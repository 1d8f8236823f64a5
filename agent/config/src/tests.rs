//! The configuration as a whole: defaults, merging, bounds.

use std::path::Path;

use machine::roots::Roots;
use wasaba_core::secret::Secret;

use crate::document::{Level, Problem};
use crate::draft::KEYS_ABOVE;
use crate::{Config, DEFAULT_TEXT, is_role, load, load_with, parse};

/// Parses a configuration called `agent.conf`.
pub(crate) fn parsed(text: &str) -> Result<(Config, Vec<Problem>), Vec<Problem>> {
    parse(Path::new("agent.conf"), text)
}

/// The problems as a user sees them.
pub(crate) fn shown(problems: &[Problem]) -> String {
    problems.iter().map(|problem| format!("{problem}\n")).collect()
}

/// The default configuration with all commented keys.
pub(crate) fn switched_on() -> String {
    let lines = DEFAULT_TEXT.lines();
    lines
        .map(|line| line.strip_prefix('#').filter(|rest| !rest.starts_with(' ')).unwrap_or(line).to_owned() + "\n")
        .collect()
}

#[test]
fn the_default_file_contains_the_defaults() {
    let (config, problems) = parsed(&switched_on()).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
    // An example that is no file on this machine.
    let examples = problems.iter().all(|problem| problem.to_string().contains("note: `include` matches no file now"));
    assert!(examples && problems.len() <= 1, "{}", shown(&problems));
    let examples = Config {
        api_key: config.api_key.clone(),
        roles: config.roles.clone(),
        display_name: config.display_name.clone(),
        status_on_start: config.status_on_start.clone(),
        status_on_stop: config.status_on_stop.clone(),
        plugins: config.plugins.clone(),
        metrics: config.metrics.clone(),
        docker: config.docker.clone(),
        checks: config.checks.clone(),
        metadata: config.metadata.clone(),
        selection: config.selection.clone(),
        network: config.network.clone(),
        places: config.places.clone(),
        machine: Roots { host: config.machine.host.clone(), dev: "/host/dev".into(), ..Roots::default() },
        ..Config::default()
    };
    assert_eq!(format!("{config:?}"), format!("{examples:?}"), "all other keys have their defaults there");
    let [table] = &config.components().collect::<Vec<_>>()[..] else { panic!("{:?}", config.metrics) };
    assert_eq!(*table.limits, wasaba_core::limits::Limits::default());
    let text = switched_on();
    for key in wasaba_core::limits::KEYS {
        assert!(text.contains(&format!("\n{} = ", key.name)), "the limit {} is missing", key.name);
    }
    let (empty, problems) = parsed(DEFAULT_TEXT).unwrap();
    assert_eq!((format!("{empty:?}"), problems.len()), (format!("{:?}", Config::default()), 0));
}

#[test]
fn a_file_that_is_not_regular_is_refused() {
    let problems = shown(&load(Path::new("/dev/zero")).unwrap_err());
    assert_eq!(problems, "cannot read `/dev/zero`: not a regular file\n");
}

#[test]
fn invalid_utf_8_is_reported_with_its_line() {
    let file = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(file.path(), b"# valid\ndisplay_name = \"\xe9t\xe9\"\n").unwrap();
    let problems = shown(&load(file.path()).unwrap_err());
    assert!(problems.ends_with("line 2 is not valid UTF-8; save the file as UTF-8\n"), "{problems}");
}

#[test]
fn keys_match_in_any_case_as_in_the_official_agent() {
    let (config, problems) = parsed("ApiKey = \"x\"\nDisplay_Name = \"web\"\n").unwrap();
    assert_eq!((config.display_name.as_deref(), problems.len()), (Some("web"), 0));
    assert_eq!(config.api_key, Some(Secret::new("x")));
}

#[test]
fn the_api_key_may_be_in_a_file() {
    let temp = tempfile::tempdir().unwrap();
    let file = temp.path().join("key");
    std::fs::write(&file, "hunter2\n").unwrap();
    let (config, _) = parsed(&format!("apikey = {{ file = {file:?} }}")).unwrap();
    assert_eq!(config.api_key, Some(Secret::new("hunter2")));
    let problems = shown(&parsed("apikey = { file = \"/no/such/file\" }").unwrap_err());
    assert!(problems.contains("/no/such/file"), "{problems}");
    let problems = shown(&parsed("apikey = { env = \"WASABA_TEST_IS_NOT_SET\" }").unwrap_err());
    assert!(problems.contains("WASABA_TEST_IS_NOT_SET"), "{problems}");
}

#[test]
fn a_role_needs_a_service() {
    for (role, is_valid) in [("Svc:role", true), ("Svc: spaced", true), ("role", false), (":x", false), ("a:", false)] {
        assert_eq!(is_role(role), is_valid, "{role}");
    }
}

#[test]
fn a_timeout_longer_than_a_minute_allows_is_capped_and_reported() {
    let (config, problems) = parsed("[plugin.metrics.web]\nwasm = \"nginx\"\ntimeout_seconds = 120\n").unwrap();
    assert_eq!(config.components().next().unwrap().limits.time, std::time::Duration::from_secs(50));
    assert!(
        shown(&problems).contains(":3:19:") && shown(&problems).contains("`timeout_seconds`"),
        "{}",
        shown(&problems)
    );
}

#[test]
fn included_files_override_keys_and_replace_whole_plugin_tables() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
    file(
        "b.conf",
        "roles = [\"B:b\"]\ninclude = \"/nowhere/[\"\n[filesystems]\nignore = \"loop\"\n[plugin.metrics.two]\ncommand = \"new\"\n",
    );
    file("a.conf", "display_name = \"a\"\nroles = [\"A:a\"]\n");
    file("c.other", "invalid TOML");
    let text = format!(
        "include = \"{}/*.conf\"\nroles = [\"Main:main\"]\ndisplay_name = \"main\"\n[filesystems]\nuse_mountpoint = true\n\
         [plugin.metrics.one]\ncommand = \"one\"\n[plugin.metrics.two]\ncommand = \"old\"\nenv = {{ A = \"b\" }}\n",
        folder.path().display()
    );
    let (config, problems) = parsed(&text).unwrap();
    assert!(problems.len() == 1 && problems[0].level() == Level::Note, "{}", shown(&problems));
    assert!(shown(&problems).contains("b.conf:2:11: note: `include` has no effect in an included file"));
    assert_eq!((&config.roles, config.display_name.as_deref()), (&vec!["B:b".to_owned()], Some("a")));
    assert!(config.selection.use_mountpoint && config.selection.filesystems.is_some());
    let programs = config.programs().map(|program| (&*program.name, program.program.environment.len()));
    assert_eq!(programs.collect::<Vec<_>>(), [("one", 0), ("two", 0)]);
    file("d.conf", "verbose = 1\n");
    let problems = shown(&parsed(&text).unwrap_err());
    assert!(problems.contains("d.conf:1:11: error: `verbose`"), "{problems}");
}

#[test]
fn an_included_file_that_others_can_write_to_is_skipped_with_the_cure() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let mode = |path: &Path, mode| std::fs::set_permissions(path, PermissionsExt::from_mode(mode)).unwrap();
    let (open, closed) = (folder.path().join("open.conf"), folder.path().join("closed.conf"));
    for file in [&open, &closed] {
        std::fs::write(file, format!("display_name = {:?}\n", file.file_stem().unwrap())).unwrap();
        mode(file, 0o644);
    }
    let text = format!("display_name = \"main\"\ninclude = \"{}/*.conf\"\n", folder.path().display());
    let main = folder.path().join("main");
    std::fs::write(&main, &text).unwrap();
    assert!(load_with(Some(&main), None).knows_key);
    mode(&open, 0o666);
    assert!(!load_with(Some(&main), None).knows_key, "it may be in the file that is skipped");
    let (config, problems) = parsed(&text).unwrap();
    let said = shown(&problems);
    assert_eq!(config.display_name.as_deref(), Some("closed"));
    assert!(said.starts_with("skipped `") && said.contains(&format!("chmod go-w {}", open.display())), "{said}");
    assert!(problems.len() == 1 && problems[0].level() == Level::Warning);
    // Whoever can write to the folder can replace any file in it.
    mode(folder.path(), 0o777);
    let (config, problems) = parsed(&text).unwrap();
    assert_eq!((config.display_name.as_deref(), problems.len()), (Some("main"), 2));
}

#[test]
fn a_reference_to_a_secret_is_not_followed_through_a_link_of_others() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let (secret, others) = (folder.path().join("secret"), folder.path().join("others"));
    std::fs::write(&secret, "hunter2").unwrap();
    std::fs::create_dir(&others).unwrap();
    std::os::unix::fs::symlink(&secret, others.join("link")).unwrap();
    let text = format!("apikey = {{ file = \"{}\" }}\n", others.join("link").display());
    assert!(parsed(&text).unwrap().0.api_key.is_some());
    std::fs::set_permissions(&others, PermissionsExt::from_mode(0o777)).unwrap();
    let said = shown(&parsed(&text).unwrap_err());
    assert!(said.contains("is a symbolic link that is not followed") && said.contains("chmod go-w"), "{said}");
}

#[test]
fn a_table_with_an_error_is_skipped_and_the_agent_runs_without_it() {
    let names = |config: &Config| {
        let metrics = config.metrics.iter().map(|plugin| format!("m {}", plugin.name));
        let checks = config.checks.iter().map(|check| format!("c {}", check.name));
        let metadata = config.metadata.iter().map(|metadata| format!("d {}", metadata.name));
        let docker = config.docker.iter().map(|_| "docker".to_owned());
        metrics.chain(checks).chain(metadata).chain(docker).collect::<Vec<_>>().join(", ")
    };
    let good = "[plugin.metrics.a]\ncommand = \"x\"\n[plugin.checks.a]\ncommand = \"x\"\n[plugin.metadata.a]\ncommand = \"x\"\n";
    for (table, skipped) in [
        ("[plugin.metrics.b]\ncommand = \"x\"\ntimeout_seconds = \"30\"\n", "[plugin.metrics.b]"),
        ("[plugin.metrics.b]\nwasm = \"x\"\nsettings = { p = { file = \"/no/such\" } }\n", "[plugin.metrics.b]"),
        ("[plugin.checks.b]\ncommand = \"x\"\ncheck_interval = \"soon\"\n", "[plugin.checks.b]"),
        ("[plugin.checks.b]\ncommand = \"x\"\naction = { command = 5 }\n", "[plugin.checks.b]"),
        ("[plugin.metadata.b]\ncommand = 5\n", "[plugin.metadata.b]"),
        ("[docker]\nname_format = \"pod\"\n", "[docker]"),
        ("[plugin.metrics]\nb = 5\n", "[plugin.metrics.b]"),
        ("[plugin.checks]\n\"\" = {}\n", "[plugin.checks.]"),
    ] {
        let (config, problems) =
            parsed(&format!("{good}{table}")).unwrap_or_else(|problems| panic!("{}", shown(&problems)));
        assert_eq!(names(&config), "m a, c a, d a", "{table}");
        let [problem] = &problems[..] else { panic!("{table}{}", shown(&problems)) };
        assert_eq!(problem.level(), Level::Invalid);
        assert!(problem.to_string().contains(": error: "), "{problem}");
        let said = problem.without_level();
        assert!(said.starts_with("agent.conf:") && said.contains(&format!(": skipped {skipped}: ")), "{said}");
    }
    // The last table of a name counts, whichever file it is in.
    let (valid, invalid) = ("[plugin.metrics.a]\ncommand = \"x\"\n", "[plugin.metrics.a]\ncommand = 5\n");
    for (first, last, expected) in [(valid, invalid, ""), (invalid, valid, "m a"), (valid, valid, "m a")] {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("a.conf"), last).unwrap();
        let (config, _) = parsed(&format!("include = \"{}/*.conf\"\n{first}", folder.path().display())).unwrap();
        assert_eq!(names(&config), expected, "{first}{last}");
    }
}

#[test]
fn every_key_at_the_top_is_known_to_belong_there_and_each_table_says_so() {
    let text = switched_on();
    let above = text.lines().take_while(|line| !line.starts_with('[')).filter_map(|line| line.split_once(" = "));
    let mut above = above.map(|(key, _)| key).filter(|key| !key.starts_with('#')).collect::<Vec<_>>();
    let mut known = KEYS_ABOVE.to_vec();
    above.sort_unstable();
    known.sort_unstable();
    assert_eq!(above, known);
    for table in
        ["[plugin.metrics.m]\ncommand = \"x\"", "[plugin.checks.c]\nwasm = \"x\"", "[docker]", "[machine]", "[plugin]"]
    {
        for key in KEYS_ABOVE.iter().filter(|key| table != "[docker]" || **key != "include") {
            let (config, problems) = parsed(&format!("{table}\n{key} = \"x\"\n")).unwrap();
            let said = shown(&problems);
            let name = table.split('\n').next().unwrap();
            assert!(said.contains(&format!("warning: `{key}` is ignored: it stands in {name}, ")), "{said}");
            assert!(said.contains("move it above the first table"), "{said}");
            assert_eq!(problems.len(), 1);
            assert!(table != "[plugin.metrics.m]" || config.metrics.len() == 1);
        }
    }
}

#[test]
fn what_is_read_of_an_unusable_configuration_is_known_and_whether_its_key_is_missing() {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("agent.conf");
    let loaded = |text: &str| {
        std::fs::write(&file, text).unwrap();
        load_with(Some(&file), None)
    };
    for (text, knows_key, plugins) in [
        ("verbose = 1\n[plugin.metrics.a]\nwasm = \"x\"\n", true, 1),
        ("apikey = \"\"\n[plugin.metrics.a]\nwasm = \"x\"\nreveal = 5\n", true, 1),
        ("apikey = 5\n", false, 0),
        ("apikey = { file = \"/no/such\" }\n", false, 0),
        ("apikey = \"x\n", false, 0),
    ] {
        let loaded = loaded(text);
        let found = (loaded.config.api_key.is_some(), loaded.knows_key, loaded.config.metrics.len());
        assert_eq!(found, (false, knows_key, plugins), "{text}");
        assert!(!loaded.problems.is_empty() || text.contains("\"\""), "{text}");
    }
    let missing = load_with(Some(&folder.path().join("none")), None);
    assert!(!missing.knows_key && missing.usable().is_err());
}

#[test]
fn a_component_replaces_a_program_of_its_name_and_vice_versa() {
    let folder = tempfile::tempdir().unwrap();
    let text = format!(
        "include = \"{}/*\"\n[plugin.metrics.a]\ncommand = \"x\"\n[plugin.metrics.b]\nwasm = \"x\"\n",
        folder.path().display()
    );
    std::fs::write(folder.path().join("i"), "[plugin.metrics.a]\nwasm = \"x\"\n[plugin.metrics.b]\ncommand = \"x\"\n")
        .unwrap();
    let (config, _) = parsed(&text).unwrap();
    assert_eq!(config.programs().map(|program| &*program.name).collect::<Vec<_>>(), ["b"]);
    assert_eq!(config.components().map(|table| table.name.as_str()).collect::<Vec<_>>(), ["a"]);
}

#[test]
fn proxies_are_resolved_as_in_the_official_agent() {
    for (http, https, expected) in [
        ("", "", (None, None)),
        ("http://h:1", "", (Some("http://h:1"), Some("http://h:1"))),
        ("http://h:1", "direct", (Some("http://h:1"), None)),
        ("http://h:1", "https://s:2", (Some("http://h:1"), Some("https://s:2"))),
        ("direct", "", (None, None)),
        ("direct", "s:2", (None, Some("s:2"))),
        ("", "http://s:2", (None, Some("http://s:2"))),
    ] {
        let (config, _) = parsed(&format!("http_proxy = {http:?}\nhttps_proxy = {https:?}\n")).unwrap();
        let shown = |proxy: &Option<Secret>| proxy.as_ref().map(|proxy| proxy.reveal().to_owned());
        let found = (shown(&config.network.http_proxy), shown(&config.network.https_proxy));
        assert_eq!((found.0.as_deref(), found.1.as_deref()), expected, "{http} {https}");
    }
    let problems = shown(&parsed("http_proxy = \"ftp://me:hunter2@h\"\n").unwrap_err());
    assert!(!problems.contains("hunter2"), "{problems}");
    // Programs get a URL.
    let text = "http_proxy = 'DOMAIN\\me:p#ss@h:1'\n[plugin.metrics.m]\ncommand = \"x\"\n";
    let (config, _) = parsed(text).unwrap();
    let [program] = &config.programs().collect::<Vec<_>>()[..] else { panic!("one program") };
    let proxy = "http://DOMAIN%5Cme:p%23ss@h:1";
    assert_eq!(
        program.program.environment[..],
        ["HTTP_PROXY", "HTTPS_PROXY"].map(|name| (name.to_owned(), proxy.to_owned()))
    );
}

#[test]
fn checks_have_the_official_agents_defaults_and_bounds() {
    for (keys, minutes, interval, attempts) in [
        ("", 1, None, None),
        ("check_interval = 0", 1, None, None),
        ("check_interval = \"2h\"", 60, None, None),
        ("notification_interval = 1", 1, Some(10), None),
        ("notification_interval = \"1h10m\"", 1, Some(70), None),
        ("max_check_attempts = -1", 1, None, None),
        ("max_check_attempts = 0", 1, None, None),
        ("max_check_attempts = 10", 1, None, Some(10)),
        ("max_check_attempts = 11", 1, None, Some(10)),
        ("max_check_attempts = 3\nprevent_alert_auto_close = true", 1, None, Some(1)),
    ] {
        let (config, _) = parsed(&format!("[plugin.checks.c]\ncommand = \"x\"\n{keys}\n")).unwrap();
        let check = &config.checks[0];
        assert_eq!(check.every.as_secs(), minutes * 60, "{keys}");
        assert_eq!((check.notification_interval_minutes, check.max_check_attempts), (interval, attempts), "{keys}");
    }
    let memo = "あ".repeat(251);
    let (config, problems) = parsed(&format!("[plugin.checks.c]\ncommand = \"x\"\nmemo = {memo:?}\n")).unwrap();
    assert_eq!(config.checks[0].memo.as_ref().unwrap().chars().count(), 250);
    assert!(problems.iter().all(|problem| problem.level() == Level::Note) && problems.len() == 1);
}

#[test]
fn keys_that_the_official_agent_ignores_are_ignored() {
    let text = "conffile = \"x\"\n[interfaces]\nuse_adapter = true\n[plugin.metrics.m]\ncommand = \"x\"\n\
                check_interval = 1\nmemo = \"x\"\n[plugin.metadata.d]\ncommand = \"x\"\ncustom_identifier = \"x\"\n";
    let (config, problems) = parsed(text).unwrap();
    assert_eq!(shown(&problems), "");
    assert_eq!((config.programs().count(), config.metadata[0].every.as_secs()), (1, 600));
}

#[test]
fn a_pattern_that_matches_no_file_is_noted_and_no_error() {
    let folder = tempfile::tempdir().unwrap();
    let pattern = format!("{}/*.conf", folder.path().display());
    let text = format!("include = {pattern:?}\n");
    let (_, problems) = parsed(&text).unwrap();
    assert_eq!(problems.iter().map(Problem::level).collect::<Vec<_>>(), [Level::Note]);
    assert!(
        shown(&problems).starts_with("agent.conf:1:11: note: `include` matches no file now"),
        "{}",
        shown(&problems)
    );
    assert!(shown(&load_with(None, Some(&pattern)).problems).starts_with("the variable `include` matches no file now"));
    assert_eq!(parsed("include = \"\"\n").unwrap().1, [], "it means none");
    std::fs::write(folder.path().join("a.conf"), text).unwrap();
    let problems = shown(&parsed(&format!("include = {pattern:?}\n")).unwrap().1);
    assert!(problems.contains("a.conf:1:11: note: `include` has no effect in an included file"), "{problems}");
    assert!(!problems.contains("matches no file"), "{problems}");
}
