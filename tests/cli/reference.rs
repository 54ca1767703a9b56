//! The reference of the command line and the session of README.md, compared with the program.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use crate::sandbox::{Sandbox, TBD};

const REFERENCE: &str = include_str!("../../ark-container-cli/README.md");

/// Members of JSON objects whose keys are data.
const MAPS: [&str; 4] = ["annotations", "documents", "labels", "resource_tags"];

/// Returns the text below a heading of the reference.
fn section(heading: &str) -> &'static str {
    let (_, after) = REFERENCE.split_once(&format!("\n## {heading}\n")).unwrap();
    after.split("\n## ").next().unwrap()
}

/// Returns the cells of the tables in a section.
fn rows(section: &str) -> Vec<Vec<String>> {
    let lines = section.lines().filter(|line| line.starts_with('|') && !line.starts_with("|-"));
    let cells = |line: &str| -> Vec<String> {
        let line = line.replace("\\|", "/");
        line.trim_matches('|').split('|').map(|cell| cell.trim().to_owned()).collect()
    };
    lines.map(cells).collect()
}

/// Returns the long options in a text, such as `--organization`.
fn options(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '-');
    words.filter(|word| word.starts_with("--") && word.len() > 2).map(str::to_owned).collect()
}

/// Returns the long options that a help text defines below a heading.
fn defined_options(help: &str, heading: &str) -> BTreeSet<String> {
    let below = help.lines().skip_while(|line| *line != heading).skip(1);
    let below = below.take_while(|line| line.is_empty() || line.starts_with(' '));
    // Descriptions are indented further.
    let is_definition = |line: &&str| {
        let text = line.trim_start();
        text.starts_with('-') && line.len() - text.len() <= 6
    };
    below.filter(is_definition).flat_map(options).collect()
}

/// Returns the first JSON object below the line of the reference that starts with `heading`.
fn example(heading: &str) -> Value {
    let json = section("JSON");
    let (_, after) = json.split_once(&format!("\n{heading}")).unwrap();
    let block = after.lines().skip_while(|line| !line.starts_with("    "));
    let block: String = block.take_while(|line| line.starts_with("    ")).collect();
    serde_json::Deserializer::from_str(&block).into_iter::<Value>().next().unwrap().unwrap()
}

fn names(object: &Map<String, Value>) -> BTreeSet<&str> {
    object.keys().map(String::as_str).collect()
}

/// Checks that two values have the same names, as far as neither is null or empty.
fn assert_same_names(place: &str, documented: &Value, printed: &Value) {
    match (documented, printed) {
        (Value::Object(documented), Value::Object(printed)) => {
            assert_eq!(names(documented), names(printed), "{place}");
            for (name, value) in documented {
                if !MAPS.contains(&name.as_str()) {
                    assert_same_names(&format!("{place}.{name}"), value, &printed[name]);
                }
            }
        }
        (Value::Array(documented), Value::Array(printed)) => {
            if let (Some(documented), Some(printed)) = (documented.first(), printed.first()) {
                assert_same_names(&format!("{place}[]"), documented, printed);
            }
        }
        _ => {}
    }
}

#[test]
fn reference_lists_every_operation_and_option() {
    let sandbox = Sandbox::new();
    let help = sandbox.printed("--help");
    let listed = help.lines().skip_while(|line| !line.starts_with("Operations")).skip(1);
    let listed = listed.take_while(|line| !line.is_empty());
    let listed = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let operations: BTreeSet<String> = listed.flat_map(options).collect();
    assert!(operations.len() > 15, "{help}");

    let table = rows(section("Operations"));
    let documented: BTreeSet<String> = table.iter().flat_map(|row| options(&row[0])).collect();
    assert_eq!(documented, operations);
    for operation in &operations {
        let row = table.iter().find(|row| options(&row[0]).contains(operation)).unwrap();
        let help = sandbox.printed(&format!("{operation} --help"));
        let mut defined = defined_options(&help, "Options:");
        defined.remove("--help");
        assert_eq!(options(&row[1]), defined, "{operation}");
        let defaults = help.lines().filter_map(|line| line.trim().strip_prefix("[default: "));
        let words = defaults.filter_map(|rest| rest.strip_suffix(']'));
        for default in words.filter(|default| !default.contains(' ')) {
            assert!(row[1].contains(default), "{operation}: {default}");
        }
    }
}

#[test]
fn reference_lists_every_global_option_and_key() {
    let sandbox = Sandbox::new();
    let table = rows(section("Settings"));
    let documented: BTreeSet<String> = table.iter().flat_map(|row| options(&row[0])).collect();
    let defined = defined_options(&sandbox.printed("--help"), "Global options:");
    assert!(defined.len() > 5 && defined.is_subset(&documented), "{defined:?} {documented:?}");

    let keys: String = table.iter().map(|row| row[2].clone() + "\n").collect();
    for table in ["", "[identity]", "[identity.claims]", "[ecr]"] {
        sandbox.write("config/ark/container.toml", format!("{table}\nabsent = 1\n"));
        let run = sandbox.run("--list-repositories");
        assert_eq!(run.code, 2, "{run:?}");
        let (_, expected) = run.stderr.split_once("expected one of ").unwrap();
        for key in expected.lines().next().unwrap().split('`').skip(1).step_by(2) {
            // A key with keys of its own is documented with them: `subject` in `[identity.claims]`.
            let is_documented =
                keys.contains(&format!("`{key}`")) || keys.contains(&format!("{key}]`"));
            assert!(is_documented, "{table} {key}");
        }
    }
}

#[test]
fn reference_lists_every_exit_code() {
    let help = Sandbox::new().printed("--help");
    let (_, codes) = help.split_once("Exit codes: ").unwrap();
    let codes = codes.split_whitespace().collect::<Vec<_>>().join(" ");
    let table = rows(section("Exit codes"));
    for code in codes.trim_end_matches('.').split(", ") {
        let (number, name) = code.split_once(' ').unwrap();
        let name = name.split(" (").next().unwrap().trim_end_matches(" failure");
        let row = table.iter().find(|row| row[0] == number).unwrap();
        let kind = row[1].trim_matches('`').replace('_', " ");
        assert!(number == "0" || kind == name, "{code}: {row:?}");
    }
}

#[test]
fn reference_shows_the_names_of_json_fields() {
    let sandbox = Sandbox::new();
    sandbox.write_image("image", "hello");
    for (heading, line) in [
        ("`--list-repositories`", "--create-repository test/repo OWNER"),
        ("`--list-repositories`", "--list-repositories"),
        ("`--login`", "--login test/repo OWNER"),
        ("`--login --docker-config`", "--login test/repo OWNER --docker-config docker"),
        ("`--push`", "--push test/repo:v1 --from oci:image OWNER"),
        ("`--pull`", "--pull test/repo:v1 --to oci:pulled OWNER"),
        ("`--copy`", "--copy test/repo:v1 --to :v2 OWNER"),
        ("`--list-images`", "--list-images test/repo OWNER"),
        ("`--inspect`", "--inspect test/repo:v1 --raw OWNER"),
        ("`--tag`", "--tag test/repo:v1 stable OWNER"),
        ("`--whoami`", "--whoami"),
        ("`--check-access`", "--check-access --action pull --repository test/repo OWNER"),
        ("`--configure-docker`", "--configure-docker"),
        ("`--logout`", "--logout"),
        ("`--cmake-dir`", "--cmake-dir"),
        ("`--delete-repository`", "--delete-image test/repo:v1 OWNER"),
        ("`--delete-repository`", "--delete-repository test/repo --force OWNER"),
    ] {
        let line = line.replace("OWNER", &format!("--organization {TBD}"));
        let printed = sandbox.printed(&format!("{line} --output json"));
        let printed: Value = serde_json::from_str(printed.lines().next().unwrap()).unwrap();
        assert_same_names(&line, &example(heading), &printed);
    }
    let server = sandbox.serve_with("--output json");
    let printed: Value = serde_json::from_str(server.line()).unwrap();
    assert_same_names("--serve", &example("`--serve`"), &printed);
    let run = sandbox.run(&format!("--login absent --organization {TBD} --output json"));
    let printed: Value = serde_json::from_str(run.stderr.lines().last().unwrap()).unwrap();
    assert_same_names("error", &example("Errors, notes and warnings"), &printed);
}

#[test]
fn readme_shows_a_real_session() {
    let readme = include_str!("../../README.md");
    let (_, session) = readme.split_once("\n## A session\n").unwrap();
    let session = session.split("\n## ").next().unwrap();
    let lines = session.lines().filter_map(|line| line.strip_prefix("    "));
    // Digests, sizes and times differ.
    let stable = |line: &str| {
        let line = line.split("@sha256:").next().unwrap();
        line.split(" (").next().unwrap().to_owned()
    };
    let sandbox = Sandbox::new();
    sandbox.write_image("image", "hello");
    let (mut shown, mut printed) = (Vec::new(), Vec::new());
    for line in lines.skip_while(|line| !line.starts_with("$ ")) {
        if let Some(typed) = line.strip_prefix("$ ark-catalog-container-tool ") {
            let run = sandbox.finish(sandbox.command(typed).env("ARK_ORGANIZATION", TBD));
            let output = run.stderr.lines().chain(run.stdout.lines());
            // This note appears once on a machine.
            let output = output.filter(|line| !line.starts_with("note: the registry is "));
            printed.extend(output.map(stable));
        } else if !line.starts_with("$ ") {
            shown.push(stable(line));
        }
    }
    assert!(shown.len() > 5, "{session}");
    assert_eq!(printed, shown);
}
