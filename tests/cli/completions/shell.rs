//! The shells themselves, each with its own line editor.

use std::env;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::component::component;
use crate::sandbox::{BINARY, Sandbox};

/// A shell that completes and is part of Debian.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shell {
    Bash,
    Zsh,
    Fish,
}

/// What the program is called where it is typed.
const TOOL: &str = "ark-catalog-container-tool";

impl Shell {
    pub(super) const ALL: [Self; 3] = [Self::Bash, Self::Zsh, Self::Fish];

    /// What the shell has for the end of a line that begins with the tool, where `tool` would run it.
    ///
    /// Folders come without their last slash, which not every shell shows.
    pub(super) fn offers(self, sandbox: &Sandbox, tool: &Command, line: &str) -> Vec<String> {
        let line = format!("{TOOL} {line}");
        let results = sandbox.path("offers");
        let words = match self {
            Self::Fish => {
                let mut fish = at_home("fish", tool);
                fish.arg("--no-config").arg("-c").arg(format!(
                    "{TOOL} --completions fish | source; complete -C '{line}' > offers"
                ));
                assert_silent(&mut fish);
                let words = fs::read_to_string(&results).unwrap();
                words.lines().map(|line| line.split('\t').next().unwrap().to_owned()).collect()
            }
            Self::Bash | Self::Zsh => {
                // What is on the line when all is filled in is told by the shell, not by its screen.
                let keys = format!(
                    "{}{line}{}{TO_START}printf '%s\\n' {TO_END} > offers\nexit\n",
                    self.set_up(),
                    self.fill_in()
                );
                let typed = sandbox.write("typed", keys);
                let mut terminal = at_home("script", tool);
                terminal.args(["-qec", self.interactive(), "/dev/null"]);
                terminal.stdin(fs::File::open(typed).unwrap()).env("TERM", "dumb");
                let told = terminal.output().unwrap();
                let words = fs::read_to_string(&results).unwrap_or_else(|error| {
                    panic!("{error}: {}", String::from_utf8_lossy(&told.stdout))
                });
                let before = line.rsplit_once(' ').unwrap().0.split(' ').count();
                words.lines().skip(before).map(str::to_owned).collect::<Vec<_>>()
            }
        };
        let mut words: Vec<String> =
            words.into_iter().map(|word: String| word.trim_end_matches('/').to_owned()).collect();
        words.sort();
        fs::remove_file(results).unwrap();
        words
    }

    fn interactive(self) -> &'static str {
        match self {
            Self::Bash => "bash --norc --noprofile -i",
            Self::Zsh => "zsh -f -i",
            Self::Fish => "fish",
        }
    }

    /// What is typed first.
    fn set_up(self) -> &'static str {
        match self {
            Self::Bash => "source <(ark-catalog-container-tool --completions bash)\n",
            _ => {
                "bindkey -e; autoload -Uz compinit; compinit -u -D; \
                 zstyle ':completion:*' completer _all_matches _complete; \
                 zstyle ':completion:*' insert true; \
                 source <(ark-catalog-container-tool --completions zsh)\n"
            }
        }
    }

    /// The key that puts all that is offered on the line.
    fn fill_in(self) -> &'static str {
        match self {
            Self::Bash => "\u{1b}*",
            _ => "\t",
        }
    }
}

/// Ctrl-A and Ctrl-E.
const TO_START: char = '\u{1}';
const TO_END: char = '\u{5}';

/// A component with the folder and environment of a command that runs the tool, which it finds by name.
fn at_home(name: &str, tool: &Command) -> Command {
    let mut command = component(name);
    let own = Path::new(BINARY).parent().unwrap().to_owned();
    let path = env::var_os("PATH").unwrap();
    let path = env::join_paths(std::iter::once(own).chain(env::split_paths(&path))).unwrap();
    command.env_clear().current_dir(tool.get_current_dir().unwrap()).stdin(Stdio::null());
    command.envs(tool.get_envs().filter_map(|(name, value)| Some((name, value?))));
    command.env("PATH", path);
    command
}

fn assert_silent(command: &mut Command) {
    let output = command.output().unwrap();
    assert!(output.status.success() && output.stderr.is_empty(), "{output:?}");
}
