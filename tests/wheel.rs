//! A wheel, tried as a newcomer does it: installed into an empty environment, a new project, a run.
//!
//! It holds the release binary, which takes a quarter of an hour to build, so it is tried where `FLOW_TEST_WHEEL` names one.

use std::process::Command;

use crate::support::root;

#[test]
fn a_wheel_is_installed_and_runs_a_new_project_in_ten_seconds() {
    #[expect(clippy::disallowed_methods, reason = "a switch for running the tests")]
    let Some(wheel) = std::env::var_os("FLOW_TEST_WHEEL") else {
        eprintln!("skipped: a wheel is tried where FLOW_TEST_WHEEL names one that scripts/build_wheel has made");
        return;
    };
    let output = Command::new("python3")
        .arg(root().join("scripts/try_wheel.py"))
        .arg(root().join(wheel))
        .output()
        .expect("Python runs");
    let said = format!("{}{}", String::from_utf8_lossy(&output.stderr), String::from_utf8_lossy(&output.stdout));
    eprint!("{said}");
    assert!(output.status.success(), "something does not hold: {said}");
}

#[test]
fn the_scripts_of_packages_explain_themselves() {
    for script in ["try_wheel.py", "measure_binary.py", "build_site.py"] {
        let output =
            Command::new("python3").arg(root().join("scripts").join(script)).arg("--help").output().expect("Python");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success() && said.contains("usage:") && said.contains(script), "{script}: {said}");
    }
}
