//! Starts the test components that are written in Python: the AWS command line and the AWS emulators.

use std::path::Path;
use std::process::Command;

/// Returns a command that starts a component. Panics if the component is missing, so that no test is skipped silently.
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
