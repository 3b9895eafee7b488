//! A test in a process of its own.
//!
//! What a server leaves comes to its subreaper, which is the whole process: beside a test that adopts orphans, and ends
//! what it adopted, no other may start processes in the same one.
#![expect(clippy::unwrap_used, reason = "a helper that fails fails its test")]

/// Set in a process that is one test's own.
const OWN: &str = "BENCHD_TEST_ALONE";

/// At the beginning of a test: starts this test again in a process of its own and is over with it there.
macro_rules! alone {
    () => {
        fn here() {}
        if !$crate::alone::is_alone(std::any::type_name_of_val(&here)) {
            return;
        }
    };
}
pub(crate) use alone;

/// Whether this process is the test's own. If it is not, the test has been run in one that is, and has passed.
#[track_caller]
pub(crate) fn is_alone(place: &str) -> bool {
    if std::env::var_os(OWN).is_some() {
        return true;
    }
    // The crate, the test, and what is in it.
    let path: Vec<&str> = place.split("::").skip(1).collect();
    let end = path
        .iter()
        .position(|part| matches!(*part, "{{closure}}" | "here"));
    let test = path[..end.unwrap()].join("::");
    let output = std::process::Command::new(std::env::current_exe().unwrap())
        .args(["--exact", &test, "--nocapture"])
        .env(OWN, "1")
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stdout);
    println!("{said}");
    eprintln!("{}", String::from_utf8_lossy(&output.stderr));
    assert!(
        output.status.success() && said.contains("1 passed"),
        "{test} failed in a process of its own: {}",
        output.status
    );
    false
}
