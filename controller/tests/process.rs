//! The program as people start it: tokens, one controller per state directory, an end on a signal.

#![expect(clippy::unwrap_used, reason = "a test ends where its ground is missing")]

use std::io::{Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

const PATIENCE: Duration = Duration::from_secs(20);

fn program() -> Command {
    Command::new(env!("CARGO_BIN_EXE_weft-controller"))
}

fn serve(folder: &Path) -> Command {
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--directory"]).arg(folder.join("objects"));
    command.arg("--state-dir").arg(folder.join("state")).stderr(Stdio::piped());
    command
}

/// Ended by its id when the test ends, however it ends.
struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

impl Running {
    fn start(folder: &Path) -> Self {
        Self::wait(serve(folder), folder)
    }

    fn wait(mut command: Command, folder: &Path) -> Self {
        let running = Self(command.spawn().unwrap());
        let begun = Instant::now();
        while std::os::unix::net::UnixStream::connect(folder.join("state/admin.sock")).is_err() {
            assert!(begun.elapsed() < PATIENCE, "it never serves");
            std::thread::yield_now();
        }
        running
    }

    fn end(&mut self) -> Option<i32> {
        let ended = Command::new("kill").arg(self.0.id().to_string()).status().unwrap();
        assert!(ended.success());
        let begun = Instant::now();
        loop {
            if let Some(status) = self.0.try_wait().unwrap() {
                return status.code();
            }
            assert!(begun.elapsed() < PATIENCE, "it does not end");
            std::thread::yield_now();
        }
    }
}

#[test]
fn a_token_is_printed_once_and_kept_from_others() {
    let folder = tempfile::tempdir().unwrap();
    let state = folder.path().join("state");
    let create =
        |node: &str| program().args(["token", "create", "--node", node, "--state-dir"]).arg(&state).output().unwrap();
    let output = create("one");
    assert!(output.status.success(), "{output:?}");
    let token = String::from_utf8(output.stdout).unwrap();
    assert_eq!(token.trim().len(), 64, "{token:?}");
    let file = state.join("tokens/one.json");
    assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    assert_eq!(std::fs::metadata(&state).unwrap().permissions().mode() & 0o777, 0o700);
    assert!(!std::fs::read_to_string(&file).unwrap().contains(token.trim()));
    assert!(!create("Not/A/Node").status.success());
}

#[test]
fn one_state_directory_serves_one_controller_which_ends_on_a_signal() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("objects")).unwrap();
    let mut first = Running::start(folder.path());
    let second = serve(folder.path()).output().unwrap();
    assert!(!second.status.success());
    let told = String::from_utf8(second.stderr).unwrap();
    assert!(told.contains("another controller answers"), "{told}");
    assert_eq!(first.end(), Some(0));
    assert!(!folder.path().join("state/admin.sock").exists());
    // Killed without a word, its socket stays; the next one takes over.
    drop(Running::start(folder.path()));
    assert!(folder.path().join("state/admin.sock").exists());
    assert_eq!(Running::start(folder.path()).end(), Some(0));
}

#[test]
fn a_lost_root_is_an_error_that_says_what_to_do() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("objects")).unwrap();
    Running::start(folder.path()).end();
    std::fs::remove_dir_all(folder.path().join("state/ca")).unwrap();
    let output = serve(folder.path()).output().unwrap();
    assert!(!output.status.success());
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(told.contains("says that a root existed") && told.contains("restore it"), "{told}");
}

#[test]
fn a_start_that_waits_says_for_what() {
    let folder = tempfile::tempdir().unwrap();
    let kubeconfig = folder.path().join("kubeconfig");
    let nobody = "{apiVersion: v1, kind: Config, current-context: one, clusters: [{name: one, cluster: {server: 'http://127.0.0.1:1'}}], \
                  users: [{name: one, user: {}}], contexts: [{name: one, context: {cluster: one, user: one}}]}";
    std::fs::write(&kubeconfig, nobody).unwrap();
    let mut command = program();
    command.args(["serve", "--listen", "127.0.0.1:0", "--kubernetes", "--kubeconfig"]).arg(&kubeconfig);
    command.arg("--state-dir").arg(folder.path().join("state")).stderr(Stdio::null());
    let mut running = Running::wait(command, folder.path());
    let begun = Instant::now();
    while !ask(folder.path()).contains("the API server cannot be reached") {
        assert!(begun.elapsed() < PATIENCE, "it says {:?}", ask(folder.path()));
        std::thread::yield_now();
    }
    assert_eq!(running.end(), Some(0));
    assert!(!folder.path().join("state/admin.sock").exists());
}

/// What `weft status` reads.
fn ask(folder: &Path) -> String {
    let mut stream = std::os::unix::net::UnixStream::connect(folder.join("state/admin.sock")).unwrap();
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    stream.write_all(b"GET /status HTTP/1.1\r\nhost: weft\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn the_help_says_what_several_controllers_mean() {
    let output = program().arg("--help").output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.contains("several may run"), "{text}");
}

#[test]
fn objects_come_from_exactly_one_place() {
    // Below a file there is no state directory: one that begins none the less ends at once.
    let refused = |flags: &[&str], parts: &[&str]| {
        let state = ["serve", "--listen", "127.0.0.1:0", "--state-dir", "/dev/null/state"];
        let output = program().args(state).args(flags).output().unwrap();
        let told = String::from_utf8(output.stderr).unwrap();
        assert!(!output.status.success() && parts.iter().all(|part| told.contains(part)), "{flags:?}: {told}");
    };
    refused(&[], &["<--directory <DIRECTORY>|--kubernetes>"]);
    refused(&["--directory", "/dev/null", "--kubernetes"], &["cannot be used with", "--kubernetes"]);
    refused(&["--directory", "/dev/null", "--kubeconfig", "/dev/null"], &["cannot be used with", "--kubeconfig"]);
}

#[test]
fn it_takes_all_the_descriptors_that_it_may_have() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("objects")).unwrap();
    let mut few = Command::new("sh");
    few.args(["-c", "ulimit -S -n 256 && exec \"$0\" \"$@\"", env!("CARGO_BIN_EXE_weft-controller")]);
    few.args(serve(folder.path()).get_args()).stderr(Stdio::null());
    let running = Running::wait(few, folder.path());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.0.id())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).unwrap();
    let numbers: Vec<&str> = line.split_whitespace().skip(3).take(2).collect();
    assert_eq!(numbers[0], numbers[1], "the soft limit stayed: {line}");
}
