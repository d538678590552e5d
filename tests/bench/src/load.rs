//! Starting generators and servers inside pods, and reading what they tell.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use rustix::process::Signal;
use weft_rig::binaries::folder_of_this_program;
use weft_rig::place::Launch;
use weft_rig::pod::Pod;
use weft_rig::process::Process;
use weft_rig::wait;

use crate::generate::{HOLDING, Hold, Load};
use crate::report::Report;

/// Where the servers of a measurement listen in their pods.
pub const ECHO_PORT: u16 = 7001;
/// Where the server that speaks first listens.
pub const GREET_PORT: u16 = 7002;
/// Where bulk goes to.
pub const SINK_PORT: u16 = 7003;
/// Where bulk comes from.
pub const SOURCE_PORT: u16 = 7004;
/// Where HTTP is answered.
pub const HTTP_PORT: u16 = 7005;

/// A server that does not listen by then never will.
const START_LIMIT: Duration = Duration::from_secs(10);
/// What a generator may take beyond its plan: start, the bound of its last exchange, end.
const GRACE: Duration = Duration::from_secs(25);
/// Counts generators whose output goes to a file, so that each has a file of its own.
static SERIAL: AtomicU32 = AtomicU32::new(1);

/// The program that generates load and serves it.
#[derive(Debug, Clone)]
pub struct Generator {
    program: PathBuf,
}

impl Generator {
    /// The program that was built together with the one that runs.
    pub fn beside_this_program() -> Result<Self> {
        let program = folder_of_this_program()?.join("weft-bench");
        anyhow::ensure!(program.exists(), "not built: {}; run `cargo build -p weft-bench`", program.display());
        Ok(Self { program })
    }

    /// Starts all servers in a pod, where they end with it. Returns the number of their process.
    pub fn serve(&self, pod: &mut Pod) -> Result<u32> {
        let ports = [
            ("--echo", ECHO_PORT),
            ("--greet", GREET_PORT),
            ("--sink", SINK_PORT),
            ("--source", SOURCE_PORT),
            ("--http", HTTP_PORT),
        ];
        let mut launch = pod.command(&self.program).arg("serve");
        for (flag, port) in ports {
            launch = launch.args([flag, &port.to_string()]);
        }
        let process = pod.serve("bench", launch)?.pid();
        for (_, port) in ports {
            pod.await_listener(port, START_LIMIT)?;
        }
        Ok(process)
    }

    /// Runs a load in a pod to its end, on one core if one is named.
    pub fn run(&self, pod: &Pod, load: &Load, core: Option<usize>) -> Result<Report> {
        run(self.launch(pod, load, core))
    }

    /// Runs the same load in several pods at the same time.
    pub fn run_side_by_side(&self, pods: &[&Pod], load: &Load) -> Result<Report> {
        let launches: Vec<Launch> = pods.iter().map(|pod| self.launch(pod, load, None)).collect();
        std::thread::scope(|scope| {
            let threads: Vec<_> = launches.into_iter().map(|launch| scope.spawn(move || run(launch))).collect();
            let mut merged = Report::default();
            for thread in threads {
                merged.merge(&thread.join().map_err(|_| anyhow!("the thread of a generator panicked"))??);
            }
            Ok(merged)
        })
    }

    /// Opens connections in a pod and returns as soon as all stand.
    pub fn hold(&self, pod: &Pod, plan: &Hold) -> Result<Holding> {
        let name = format!("hold-{}", SERIAL.fetch_add(1, Ordering::Relaxed));
        let launch = self.launch(pod, &Load::Hold(plan.clone()), None);
        let mut process = pod.start(&name, launch)?;
        wait::until("every connection to stand", GRACE + Duration::from_secs_f64(plan.seconds), || {
            process.expect_running()?;
            process.output().contains(HOLDING).then_some(()).context("not all do yet")
        })?;
        Ok(Holding { process })
    }

    fn launch(&self, pod: &Pod, load: &Load, core: Option<usize>) -> Launch {
        let mut launch = pod.command(&self.program).arg("generate");
        if let Some(core) = core {
            launch = launch.args(["--core", &core.to_string()]);
        }
        launch.args(load.arguments()).within(Duration::from_secs_f64(load.seconds()) + GRACE)
    }
}

/// A generator whose connections rest.
#[derive(Debug)]
pub struct Holding {
    process: Process,
}

impl Holding {
    /// Fails if the generator has ended.
    pub fn expect_running(&mut self) -> Result<()> {
        self.process.expect_running()
    }

    /// Uses every connection once more, closes all of them and tells what was seen.
    pub fn end(self) -> Result<Report> {
        self.process.signal(Signal::USR1)?;
        let (status, output) = self.process.finish(GRACE)?;
        anyhow::ensure!(status.success(), "the generator ended with {status}:\n{output}");
        last_line(&output)
    }
}

fn run(launch: Launch) -> Result<Report> {
    last_line(&launch.run()?.expect_success()?)
}

fn last_line(output: &str) -> Result<Report> {
    let line = output.lines().last().context("the generator said nothing")?;
    serde_json::from_str(line).with_context(|| format!("the generator said {line:?}"))
}
