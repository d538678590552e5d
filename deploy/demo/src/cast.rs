//! The applications: real programs with the least configuration they accept, none of which knows Weft.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, Result};
use weft_rig::{Mesh, MeshPlan, PodPlan, ServicePlan};

/// A database may need a while to make its files.
const START_LIMIT: Duration = Duration::from_secs(30);

/// Pods and Services of the story.
pub fn plan() -> MeshPlan {
    Mesh::two_nodes()
        .namespace("shop", &[("weft.dev/on-agent-failure", "open")])
        .namespace("vault", &[("weft.dev/on-agent-failure", "closed")])
        .namespace("outside", &[])
        .pod(PodPlan::named("shop/customer").on(1).account("customer"))
        .pod(PodPlan::named("shop/auditor").on(1).account("auditor"))
        .pod(PodPlan::named("shop/web-1").on(2).account("web").label("app", "web"))
        .pod(PodPlan::named("shop/web-2").on(2).account("web").label("app", "web"))
        .pod(PodPlan::named("shop/database").on(2).account("database").label("app", "database"))
        .pod(PodPlan::named("shop/cache").on(2).account("cache").label("app", "cache"))
        .pod(PodPlan::named("shop/chat").on(2).account("chat").label("app", "chat"))
        .pod(PodPlan::named("shop/cart-v1").on(2).account("cart").label("app", "cart").label("version", "v1"))
        .pod(PodPlan::named("shop/cart-v2").on(2).account("cart").label("app", "cart").label("version", "v2"))
        .pod(PodPlan::named("shop/stock-1").on(2).account("stock").label("app", "stock"))
        .pod(PodPlan::named("shop/stock-2").on(2).account("stock").label("app", "stock"))
        .pod(PodPlan::named("vault/clerk").on(1).account("clerk"))
        .pod(PodPlan::named("vault/safe").on(2).account("safe").label("app", "safe"))
        .pod(PodPlan::named("outside/intruder").on(1))
        .service(ServicePlan::named("shop/web").port("http", 80, 8080).selects("app", "web"))
        .service(ServicePlan::named("shop/database").port("sql", 3306, 3306).selects("app", "database"))
        .service(ServicePlan::named("shop/cache").port("cache", 6379, 6379).selects("app", "cache"))
        .service(ServicePlan::named("shop/chat").port("chat", 80, 8081).selects("app", "chat"))
        .service(ServicePlan::named("shop/cart").port("http", 80, 8080).selects("app", "cart"))
        .service(ServicePlan::named("shop/cart-v1").port("http", 80, 8080).selects("version", "v1"))
        .service(ServicePlan::named("shop/cart-v2").port("http", 80, 8080).selects("version", "v2"))
        .service(ServicePlan::named("shop/stock").port("http", 80, 8090).selects("app", "stock"))
        .service(ServicePlan::named("shop/rpc").port("grpc", 80, 8091).selects("app", "stock"))
        .service(ServicePlan::named("vault/safe").port("http", 80, 8080).selects("app", "safe"))
}

/// Starts every server and waits until it listens.
pub fn start(mesh: &mut Mesh, testapp: &Path) -> Result<()> {
    for name in ["shop/web-1", "shop/web-2", "shop/cart-v1", "shop/cart-v2", "vault/safe"] {
        nginx(mesh, name)?;
    }
    for name in ["shop/stock-1", "shop/stock-2"] {
        stock(mesh, testapp, name)?;
    }
    database(mesh)?;
    cache(mesh)?;
    chat(mesh, testapp)?;
    for (name, port) in [
        ("shop/web-1", 8080),
        ("shop/web-2", 8080),
        ("shop/cart-v1", 8080),
        ("shop/cart-v2", 8080),
        ("shop/stock-1", 8091),
        ("shop/stock-2", 8091),
        ("vault/safe", 8080),
        ("shop/database", 3306),
        ("shop/cache", 6379),
        ("shop/chat", 8081),
    ] {
        mesh.pod_mut(name)?.await_listener(port, START_LIMIT).with_context(|| format!("{name} does not start"))?;
    }
    Ok(())
}

/// A web server that says who it is and whom it sees.
pub fn nginx(mesh: &mut Mesh, name: &str) -> Result<()> {
    let pod = mesh.pod_mut(name)?;
    let folder = pod.scratch().to_owned();
    let shown = folder.display();
    let temporary = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
        .map(|kind| format!("  {kind}_temp_path {shown}/{kind};\n"))
        .concat();
    let configuration = format!(
        "daemon off;\nuser root;\nworker_processes 1;\npid {shown}/nginx.pid;\nerror_log {shown}/error.log;\n\
         events {{ worker_connections 1024; }}\nhttp {{\n{temporary}  log_format seen '$remote_addr \"$request\" $status';\n  \
         access_log {shown}/nginx.log seen;\n  add_header server-name {name};\n  default_type text/plain;\n  server {{\n    listen 8080;\n    listen [::]:8080;\n    \
         location / {{ return 200 \"{name} sees $remote_addr\\n\"; }}\n  }}\n}}\n"
    );
    let file = folder.join("nginx.conf");
    fs::write(&file, configuration)?;
    let launch = pod.command("nginx").arg("-c").arg(&file).arg("-e").arg(folder.join("error.log"));
    pod.serve("nginx-output", launch).map(drop)
}

/// A database that speaks first, on a port whose name declares nothing.
fn database(mesh: &mut Mesh) -> Result<()> {
    let pod = mesh.pod_mut("shop/database")?;
    let folder = pod.scratch().join("data");
    fs::create_dir_all(&folder)?;
    let launch = pod
        .command("mariadbd")
        .args([
            "--no-defaults",
            "--user=root",
            "--skip-grant-tables",
            "--skip-networking=0",
            "--bind-address=*",
            "--port=3306",
        ])
        .args([
            "--skip-name-resolve",
            "--innodb-use-native-aio=0",
            "--innodb-buffer-pool-size=16M",
            "--innodb-log-file-size=4M",
        ])
        .arg(format!("--datadir={}", folder.display()))
        .arg(format!("--socket={}/socket", folder.display()))
        .arg(format!("--pid-file={}/pid", folder.display()));
    pod.serve("mariadb", launch).map(drop)
}

fn cache(mesh: &mut Mesh) -> Result<()> {
    let pod = mesh.pod_mut("shop/cache")?;
    let folder = pod.scratch().to_owned();
    let launch = pod.command("redis-server").args(["--port", "6379", "--bind", "*", "-::*"]);
    let launch = launch.args(["--protected-mode", "no", "--save", "", "--appendonly", "no", "--dir"]).arg(folder);
    pod.serve("redis", launch).map(drop)
}

fn chat(mesh: &mut Mesh, testapp: &Path) -> Result<()> {
    let pod = mesh.pod_mut("shop/chat")?;
    let launch = pod.command(testapp).args(["websocket-serve", "--port", "8081"]);
    pod.serve("chat", launch).map(drop)
}

/// Answers requests on 8090, not always well, and gRPC calls on 8091.
fn stock(mesh: &mut Mesh, testapp: &Path, name: &str) -> Result<()> {
    let pod = mesh.pod_mut(name)?;
    let answers = ["http", "--name", name, "--port"];
    let failing = pod.command(testapp).args(answers).args(["8090", "--broken", "503", "--every", "12"]);
    pod.serve("stock", failing)?;
    let calls = pod.command(testapp).args(answers).arg("8091");
    pod.serve("calls", calls).map(drop)
}
