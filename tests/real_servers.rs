//! The shipped settings against real embedding servers, which `scripts/real_servers` installs and measures.
//!
//! They take gigabytes and a quarter of an hour, so they run only where `FLOW_TEST_REAL_SERVERS` names the folder that they
//! are installed into.

use std::process::Command;

use crate::support::root;

#[test]
fn real_servers_embed_the_shipped_table_with_the_shipped_settings() {
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    let Some(folder) = std::env::var_os("FLOW_TEST_REAL_SERVERS") else {
        eprintln!(
            "skipped: real servers are installed and measured where FLOW_TEST_REAL_SERVERS names a folder for them"
        );
        return;
    };
    let output = Command::new("python3")
        .arg(root().join("scripts/real_servers"))
        .arg("--folder")
        .arg(folder)
        .args(["--flow", env!("CARGO_BIN_EXE_flow")])
        .output()
        .expect("Python runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    eprint!("{said}");
    assert!(output.status.success(), "something does not hold: {said}");
}

#[test]
fn the_script_of_real_servers_explains_itself() {
    let output =
        Command::new("python3").arg(root().join("scripts/real_servers")).arg("--help").output().expect("Python");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success() && said.contains("--folder") && said.contains("litellm"), "{said}");
}
