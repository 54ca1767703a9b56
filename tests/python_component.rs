//! What is written in Python: the AWS command line and the emulators of AWS.

use std::path::Path;
use std::process::Command;

/// A command that starts it. A test whose component is missing fails: skipped, it would show nothing.
pub(crate) fn python_component(name: &str) -> Command {
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().unwrap();
    let venv = target.join("test-components/venv");
    let program = venv.join("bin").join(name);
    assert!(
        program.is_file(),
        "{name} is missing; install it: python3 -m venv {venv} && \
         {venv}/bin/pip install -r tests/python-components.txt",
        venv = venv.display()
    );
    Command::new(program)
}
