use super::*;

fn with(file: &str, environment: &[(&str, &str)]) -> Result<Config, ConfigError> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join(FILE_NAME);
    std::fs::write(&path, file).unwrap();
    let environment = environment.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    Config::load(&LoadOptions { file: Some(path), environment, ..LoadOptions::default() })
}

/// The one problem of a wrong configuration, as `key: message`.
fn problem(file: &str, environment: &[(&str, &str)]) -> String {
    let error = with(file, environment).unwrap_err();
    assert_eq!(error.problems().len(), 1, "{error}");
    format!("{}: {}", error.problems()[0].key, error.problems()[0].message)
}

const CALLER: &str = "[[callers]]\nname = \"a\"\nroles = [\"agent\"]\nworkspaces = [\"acme\"]\n";
const HASH: &str = "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

#[test]
fn the_built_in_defaults_are_a_configuration() {
    let config = Config::load(&LoadOptions::default()).unwrap();
    assert_eq!(config.connector.listen.port(), 50053);
    assert_eq!(config.assertion.lifetime, Duration::from_mins(15));
    assert_eq!(config.workspaces_dir, Path::new("config/workspaces"));
    assert_eq!(config.keyring_dir, Path::new("data/keys"));
    assert!(config.file.is_none());
}

#[test]
fn the_defaults_hold_exactly_the_keys_that_are_read() {
    let layer = source::parse(Origin::Default, DEFAULTS).unwrap();
    let mut written = Vec::new();
    source::leaves(&layer.table, "", &mut written);
    let reader = reader::Reader::new(vec![layer]);
    sections::read(&reader, PathBuf::new(), None).unwrap();
    let mut read = reader.known();
    for keys in [&mut written, &mut read] {
        keys.sort_unstable();
        keys.dedup();
    }
    assert_eq!(written, read);
}

#[test]
fn every_default_is_commented_and_names_its_environment_variable() {
    let layer = source::parse(Origin::Default, DEFAULTS).unwrap();
    let mut keys = Vec::new();
    source::leaves(&layer.table, "", &mut keys);
    for key in keys {
        let name = format!("SAFECONDUCT_{}", key.to_uppercase().replace('.', "__"));
        let named = DEFAULTS
            .lines()
            .filter(|line| line.starts_with('#'))
            .flat_map(|line| line.split(|c: char| !(c.is_ascii_uppercase() || c.is_ascii_digit() || c == '_')))
            .any(|word| word == name);
        assert!(named, "{key}: no comment says {name}");
    }
}

#[test]
fn the_commented_examples_of_callers_and_issuers_are_complete_and_work() {
    let examples: Vec<_> = DEFAULTS.lines().filter_map(|line| line.strip_prefix("#| ")).collect();
    let examples = examples.join("\n");
    let (callers, issuers) = examples.split_once("[[issuers]]").unwrap();
    for credential in ["token_sha256", "san", "jwt"] {
        let others = ["token_sha256", "san", "jwt"].into_iter().filter(|one| *one != credential);
        let lines = callers.lines().filter(|line| !others.clone().any(|one| line.starts_with(one)));
        let tls = "connector.tls = {cert = \"c\", key = \"k\", client_ca = \"ca\"}";
        let file = format!("{tls}\n{}\n[[issuers]]{issuers}", lines.collect::<Vec<_>>().join("\n"));
        let config = with(&file, &[]).unwrap();
        assert_eq!(config.callers.len(), 1, "{credential}");
        assert_eq!(config.issuers.len(), 1);
    }
}

#[test]
fn the_environment_wins_over_the_file_and_the_file_over_the_defaults() {
    let file = "[limits]\nin_flight = 7\nconcurrent_streams = 8\n";
    let config = with(file, &[("SAFECONDUCT_LIMITS__IN_FLIGHT", "9"), ("SAFECONDUCT_OTP__INSECURE", "true")]).unwrap();
    assert_eq!(config.limits.in_flight, 9);
    assert_eq!(config.limits.concurrent_streams, 8);
    assert_eq!(config.limits.message_bytes, 1 << 20);
    assert!(config.otp.insecure);
}

#[test]
fn the_command_line_wins_over_everything() {
    let environment = vec![("SAFECONDUCT_DATA_DIR".to_owned(), "/elsewhere".to_owned())];
    let data_dir = Some(PathBuf::from("/here"));
    let config = Config::load(&LoadOptions { environment, data_dir, ..LoadOptions::default() }).unwrap();
    assert_eq!(config.data_dir, Path::new("/here"));
    assert_eq!(config.keyring_dir, Path::new("/here/keys"));
}

#[test]
fn the_configuration_directory_holds_the_file_the_workspaces_and_the_secrets() {
    let directory = tempfile::tempdir().unwrap();
    std::fs::write(directory.path().join(FILE_NAME), "log.level = \"debug\"").unwrap();
    let by_variable = LoadOptions {
        environment: vec![("SAFECONDUCT_CONFIG".to_owned(), directory.path().to_string_lossy().into_owned())],
        ..LoadOptions::default()
    };
    let by_option = LoadOptions { config_dir: Some(directory.path().to_owned()), ..LoadOptions::default() };
    for options in [by_variable, by_option] {
        let config = Config::load(&options).unwrap();
        assert_eq!(config.log.level, "debug");
        assert_eq!(config.workspaces_dir, directory.path().join("workspaces"));
        assert_eq!(config.secrets_dir, directory.path().join("secrets"));
    }
}

#[test]
fn an_unknown_key_is_refused_with_file_key_and_remedy() {
    let error = with("[store]\nulr = \"redis://x\"\n", &[]).unwrap_err().to_string();
    assert!(error.contains(FILE_NAME) && error.contains("store.ulr") && error.contains("`store.url`"), "{error}");
    assert!(problem("colour = 1", &[]).starts_with("colour: there is no such setting; remove it"));
    assert!(problem("[strore]", &[]).starts_with("strore: there is no such setting"));
    assert!(problem("store = 1", &[]).starts_with("store: is a section"));
    with("[store]", &[]).unwrap();
}

#[test]
fn an_unknown_environment_variable_is_refused_by_its_name() {
    let error = with("", &[("SAFECONDUCT_STORE__ULR", "x")]).unwrap_err().to_string();
    assert!(error.contains("environment variable SAFECONDUCT_STORE__ULR") && error.contains("`store.url`"), "{error}");
    with("", &[("SAFECONDUCT_store__kind", "redis")]).unwrap_err();
    with("", &[("SAFECONDUCT_", "1")]).unwrap_err();
    with("", &[("SAFECONDUCT_SECRET_ACME_TOKEN", "x"), ("SAFECONDUCT_CONFIG", "x"), ("HOME", "/")]).unwrap();
}

#[test]
fn links_of_kubernetes_services_are_told_apart_from_settings() {
    for name in ["SAFECONDUCT_OTP_SERVICE_HOST", "SAFECONDUCT_OTP_PORT", "SAFECONDUCT_OTP_PORT_50052_TCP_ADDR"] {
        let error = with("", &[(name, "tcp://10.0.0.1:1")]).unwrap_err().to_string();
        assert!(error.contains("enableServiceLinks"), "{error}");
    }
}

#[test]
fn wrong_values_say_what_is_expected_and_never_what_was_given() {
    for (file, expected) in [
        ("limits.in_flight = 0", "limits.in_flight: expected a whole number from 1 to 1000000"),
        ("limits.in_flight = \"9\"", "limits.in_flight: expected a whole number"),
        ("limits.max_deadline = \"2 weeks\"", "limits.max_deadline: expected a length of time from 100ms to 1h"),
        ("limits.message_bytes = \"1TB\"", "limits.message_bytes: expected a size"),
        ("otp.listen = \"50052\"", "otp.listen: expected an address and a port"),
        ("otp.insecure = \"yes\"", "otp.insecure: expected true or false"),
        ("store.kind = \"postgres\"", "store.kind: expected one of \"embedded\", \"redis\""),
        ("store.kind = \"redis\"\nstore.url = \"http://hunter2@x\"", "store.url: expected redis://"),
        ("store.url = \"redis://:hunter2@x\"", "store.url: is set, but store.kind is \"embedded\""),
        ("store.sentinel.addresses = [\"a:1\"]", "store.sentinel.addresses: is set, but store.kind is \"embedded\""),
        (
            "store = {kind = \"redis\", url = \"redis://a\", cluster.addresses = [\"a:1\"]}",
            "store.cluster.addresses: is set, and so is store.url",
        ),
        ("store = {kind = \"redis\", sentinel.addresses = [\"a:1\"]}", "store.sentinel.master: is empty"),
        (
            "store = {kind = \"redis\", url = \"redis://a\", sentinel.master = \"m\"}",
            "store.sentinel.master: is set, but store.sentinel.addresses names no Sentinel",
        ),
        (
            "store = {kind = \"redis\", cluster.addresses = [\"redis://hunter2@a\"]}",
            "store.cluster.addresses: expected a list of host:port",
        ),
        ("store = {kind = \"redis\", url = \"redis://a\", user = \"u\"}", "store.password: is missing"),
        (
            "store = {kind = \"redis\", url = \"redis://u:hunter2@a\", password = \"hunter2\"}",
            "store.password: is set, and store.url names",
        ),
        ("store = {kind = \"redis\", url = \"redis://a\", tls = true}", "store.tls: is set, but store.url is redis://"),
        (
            "store = {kind = \"redis\", url = \"redis://a\", ca = \"ca.pem\"}",
            "store.ca: is set, but Redis is not spoken",
        ),
        ("store = {kind = \"redis\", url = \"rediss://a\", cert = \"c\"}", "store.key: is missing"),
        (
            "store = {kind = \"redis\", url = \"redis://a\", durability = \"replicated\", replica_timeout = \"2s\"}",
            "store.replica_timeout: must be shorter than store.reply_timeout",
        ),
        (
            "store = {kind = \"redis\", url = \"redis://a\", recovery_hold = \"29s\"}",
            "store.recovery_hold: is shorter than connector.lease",
        ),
        ("log.level = [\"info\"]", "log.level: expected text"),
        ("data_dir = \"\"", "data_dir: expected a path"),
        ("sisters.identity = \"ftp://x\"", "sisters.identity: expected http://host:port"),
        ("sisters.identity = \"http://x:1\"", "sisters.identity: goes over the network without TLS"),
        ("sisters.admission = \"https://x:1\"", "sisters.admission: is https; name the CA"),
        ("otp.tls.cert = \"c\"", "otp.tls.key: is missing"),
        ("otp.tls.client_required = true", "otp.tls.client_required: needs tls.client_ca"),
        ("otp.tls.client_ca = \"c\"", "otp.tls.client_ca: needs tls.cert"),
        ("limits.default_deadline = \"2m\"", "limits.default_deadline: is longer than limits.max_deadline"),
        ("drain.hard_deadline = \"5s\"", "drain.hard_deadline: must be longer than drain.grace"),
    ] {
        let told = problem(file, &[]);
        assert!(told.starts_with(expected), "{file}: {told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    assert!(problem("", &[("SAFECONDUCT_LIMITS__IN_FLIGHT", "many")]).contains("whole number"));
}

#[test]
fn each_kind_of_redis_is_a_configuration() {
    let servers = |file: &str, environment: &[(&str, &str)]| match with(file, environment).unwrap().store {
        StoreConfig::Redis(redis) => redis,
        StoreConfig::Embedded { .. } => panic!("{file} is embedded"),
    };
    let one = servers("store = {kind = \"redis\", url = \"redis://a\"}", &[]);
    assert!(matches!(one.servers, RedisServersConfig::Standalone { .. }));
    assert_eq!((one.replicated, one.recovery_hold), (None, Duration::from_mins(10)));
    let file = "[store]\nkind = \"redis\"\nuser = \"u\"\ntls = true\nca = \"ca.pem\"\ndurability = \"replicated\"\nreplicas = 2\n\
                sentinel.addresses = [\"a:1\", \"b:2\"]\nsentinel.master = \"m\"\n";
    let watched = servers(file, &[("SAFECONDUCT_STORE__PASSWORD", "hunter2")]);
    assert!(matches!(&watched.servers, RedisServersConfig::Sentinel { addresses, .. } if addresses.len() == 2));
    assert_eq!(watched.replicated, Some((2, Duration::from_secs(1))));
    assert!(!format!("{watched:?}").contains("hunter2"));
    let addresses = ("SAFECONDUCT_STORE__CLUSTER__ADDRESSES", "a:1, b:2");
    let cluster = servers("store.kind = \"redis\"", &[addresses]);
    assert!(matches!(&cluster.servers, RedisServersConfig::Cluster { addresses } if addresses == &["a:1", "b:2"]));
}

#[test]
fn everything_that_is_wrong_is_told_at_once() {
    let error = with("a = 1\nlog.format = \"xml\"\n", &[("SAFECONDUCT_B", "1")]).unwrap_err();
    assert_eq!(error.problems().len(), 3, "{error}");
}

#[test]
fn one_wrong_value_makes_no_other_setting_unknown() {
    let layer = source::parse(Origin::Default, DEFAULTS).unwrap();
    let mut keys = Vec::new();
    source::leaves(&layer.table, "", &mut keys);
    for key in keys {
        let told = problem(&format!("{key} = 1979-05-27"), &[]);
        assert!(told.starts_with(&format!("{key}: expected")), "{told}");
    }
}

#[test]
fn a_file_that_is_not_toml_is_refused_by_place_and_is_not_shown() {
    let error = with("[store]\nurl = \"redis://:hunter2@x\n", &[]).unwrap_err().to_string();
    assert!(error.contains("line 2, column"), "{error}");
    assert!(!error.contains("hunter2"), "{error}");
}

#[test]
fn a_named_file_or_directory_must_be_there() {
    let file = Some(PathBuf::from("/nonexistent/x.toml"));
    let error = Config::load(&LoadOptions { file, ..LoadOptions::default() }).unwrap_err().to_string();
    assert!(error.contains("/nonexistent/x.toml"), "{error}");
    let config_dir = Some(PathBuf::from("/nonexistent"));
    assert!(Config::load(&LoadOptions { config_dir, ..LoadOptions::default() }).is_err());
}

#[test]
fn a_listener_that_is_not_loopback_needs_tls_and_callers_or_says_insecure() {
    let open = "connector.listen = \"0.0.0.0:50053\"\n";
    let tls = "connector.tls = {cert = \"c\", key = \"k\"}\n";
    let caller = format!("{CALLER}token_sha256 = \"{HASH}\"\n");
    assert_eq!(with(open, &[]).unwrap_err().problems().len(), 2);
    assert!(problem(&format!("{open}{tls}"), &[]).contains("no caller is configured"));
    assert!(problem(&format!("{open}{caller}"), &[]).contains("without TLS"));
    with(&format!("{open}{tls}{caller}"), &[]).unwrap();
    with(&format!("{open}connector.insecure = true"), &[]).unwrap();
    assert!(problem("operations.listen = \"[::]:9464\"", &[]).contains("not loopback"));
    with("operations = {listen = \"[::]:9464\", insecure = true}", &[]).unwrap();
}

#[test]
fn callers_that_mean_nothing_or_too_much_are_refused() {
    let caller = |roles: &str, rest: &str| format!("[[callers]]\nname = \"a\"\nroles = {roles}\n{rest}\n");
    let token = format!("token_sha256 = \"{HASH}\"");
    for role in ["messenger", "backend", "operator"] {
        let told = problem(&caller(&format!("[\"agent\", \"{role}\"]"), &token), &[]);
        assert!(told.starts_with("callers[a].roles: `agent` cannot be combined"), "{told}");
    }
    with(&caller("[\"agent\", \"gateway\"]", &format!("{token}\ndomains = [\"edge\"]")), &[]).unwrap();
    for (file, expected) in [
        (caller("[\"king\"]", &token), "callers[a].roles: expected a list of one of \"agent\""),
        (caller("[]", &token), "callers[a].roles: expected at least one role"),
        (caller("[\"gateway\"]", &token), "callers[a].domains: expected the domains of limits"),
        (caller("[\"agent\"]", ""), "callers[a]: expected exactly one of token_sha256"),
        (caller("[\"agent\"]", &format!("{token}\nsan = \"dns:a\"")), "callers[a]: expected exactly one of"),
        (caller("[\"agent\"]", "token_sha256 = \"hunter2\""), "callers[a].token_sha256: expected the SHA-256"),
        (caller("[\"agent\"]", "san = \"a.example\""), "callers[a].san: expected \"dns:\""),
        (caller("[\"agent\"]", "jwt = {issuer = \"i\", subject = \"s\"}"), "callers: `a` names an issuer"),
        (caller("[\"agent\"]", "san = \"dns:a\""), "callers: `a` is known by a certificate, but no listener"),
        (caller("[\"agent\"]", &format!("{token}\ncolor = 1")), "callers[a].color: there is no such setting"),
        (caller("[\"agent\"]", &format!("{token}\nworkspaces = [\"*\", \"x\"]")), "callers[a].workspaces: \"*\" means"),
        (
            caller("[\"agent\"]", &format!("{token}\nworkspaces = [\"A\"]")),
            "callers[a].workspaces: a workspace id must",
        ),
    ] {
        let told = problem(&file, &[]);
        assert!(told.starts_with(expected), "{told}");
        assert!(!told.contains("hunter2"), "{told}");
    }
    let twice = caller("[\"agent\"]", &token).repeat(2);
    let told = with(&twice, &[]).unwrap_err().to_string();
    assert!(told.contains("`a` is there twice") && told.contains("the same credential"), "{told}");
}

#[test]
fn callers_can_come_from_the_environment() {
    let value = format!("[{{name = \"b\", roles = [\"backend\"], token_sha256 = \"{HASH}\"}}]");
    let config = with("", &[("SAFECONDUCT_CALLERS", &value)]).unwrap();
    assert_eq!(config.callers[0].name.as_str(), "b");
    assert!(problem("", &[("SAFECONDUCT_CALLERS", "hunter2")]).starts_with("callers: expected an array of tables"));
}

#[test]
fn neither_a_configuration_nor_its_options_print_a_secret() {
    let file =
        format!("store = {{kind = \"redis\", url = \"redis://:hunter2@x\"}}\n{CALLER}token_sha256 = \"{HASH}\"\n");
    let shown = format!("{:?}", with(&file, &[]).unwrap());
    assert!(!shown.contains("hunter2") && !shown.contains(HASH), "{shown}");
    let environment = vec![("SAFECONDUCT_SECRET_X".to_owned(), "hunter2".to_owned())];
    let shown = format!("{:?}", LoadOptions { environment, ..LoadOptions::default() });
    assert!(!shown.contains("hunter2"), "{shown}");
}
