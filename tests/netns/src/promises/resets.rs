//! Ends in the middle: what was cut never looks whole, and what a server has not begun with goes to it again, once.

use anyhow::{Context, Result, ensure};
use serde_json::Value;
use weft_rig::{Mesh, wait};

use super::floods::{self, WEB};
use super::http::ANSWERS_LIMIT;
use crate::cast::{self, EFFECT_LIMIT};
use crate::scene::{Promise, Scene};

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("http_answers_that_are_cut_never_look_whole", half),
        Promise::new("http_uploads_that_are_cut_are_resets_to_the_application", upload),
        Promise::new("http_streams_that_were_refused_are_sent_again_and_delivered_once", refused),
        Promise::new("http_connections_that_die_before_reuse_harm_no_get_and_repeat_no_post", fleeting),
        Promise::new("http_tunnels_are_refused_in_so_many_words", tunnel),
    ]
}

fn start(scene: &Scene, kind: &str) -> Result<Mesh> {
    let mut mesh = floods::web(scene)?.start(&scene.sandbox)?;
    serve(&mut mesh, kind)?;
    Ok(mesh)
}

/// Another server in the place of the one before.
fn serve(mesh: &mut Mesh, kind: &str) -> Result<()> {
    let pod = mesh.pod_mut("shop/web")?;
    let launch = pod.command(cast::testapp()?).args(["hostile", "--port", &WEB.to_string(), "--kind", kind]);
    pod.kill_programs();
    pod.serve(kind, launch)?;
    pod.await_listener(WEB, EFFECT_LIMIT)
}

/// What a client heard that speaks by hand, and how it ended.
fn say(mesh: &Mesh, text: &str, further: &[&str]) -> Result<Value> {
    let to = format!("web.shop:{WEB}");
    let arguments = [&["say", "--to", &to, "--text", text], further].concat();
    cast::expect_client(mesh, "shop/client", &arguments, ANSWERS_LIMIT)
}

/// What the server has printed.
fn told(mesh: &mut Mesh) -> Result<String> {
    Ok(mesh.pod_mut("shop/web")?.programs().first().context("no server")?.output())
}

fn served(mesh: &mut Mesh) -> Result<u64> {
    Ok(told(mesh)?.matches("\"served\"").count() as u64)
}

fn half(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene, "half")?;
    for version in ["1.0", "1.1"] {
        let report = say(&mesh, &format!(r"GET / HTTP/{version}\r\nHost: web\r\n\r\n"), &[])?;
        ensure!(report["end"] == "ConnectionReset", "HTTP/{version}: {report}");
    }
    serve(&mut mesh, "switch")?;
    let report = say(&mesh, r"GET / HTTP/1.1\r\nHost: web\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", &[])?;
    ensure!(report["end"] == "ConnectionReset", "an upgraded connection: {report}");
    Ok(())
}

fn upload(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene, "witness")?;
    let heads = ["Content-Length: 1000", "Transfer-Encoding: chunked"];
    for (number, head) in heads.into_iter().enumerate() {
        let text = format!(r"POST / HTTP/1.1\r\nHost: web\r\n{head}\r\n\r\n4\r\nhalf\r\n");
        let report = say(&mesh, &text, &["--reset-after", "heard"])?;
        ensure!(report["end"] == "reset", "{head}: {report}");
        wait::until("the application to be told", EFFECT_LIMIT, || {
            let told = told(&mut mesh)?;
            ensure!(told.matches("ConnectionReset").count() == number + 1, "{head}: {told}");
            Ok(())
        })?;
    }
    Ok(())
}

fn refused(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene, "refuse")?;
    for kind in ["refuse", "go-away"] {
        serve(&mut mesh, kind)?;
        let to = format!("web.shop:{WEB}");
        let post = ["requests", "--to", &to, "--http2", "--method", "POST", "--bytes", "10", "--count", "40"];
        cast::expect_client(&mesh, "shop/client", &post, ANSWERS_LIMIT).with_context(|| kind.to_owned())?;
        ensure!(served(&mut mesh)? == 40, "{kind}: not each request was delivered once: {}", served(&mut mesh)?);
    }
    Ok(())
}

fn fleeting(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene, "fleeting")?;
    let to = format!("web.shop:{WEB}");
    let get = ["requests", "--to", &to, "--count", "20"];
    cast::expect_client(&mesh, "shop/client", &get, ANSWERS_LIMIT)?;
    ensure!(served(&mut mesh)? == 20, "{}", told(&mut mesh)?);
    let post = ["requests", "--to", &to, "--count", "20", "--method", "POST", "--bytes", "10", "--allow", "502"];
    let report = cast::expect_client(&mesh, "shop/client", &post, ANSWERS_LIMIT)?;
    let good = report["statuses"]["200"].as_u64().unwrap_or(0);
    let honest = report["reasons"]["upstream_reset"].as_u64().unwrap_or(0);
    ensure!(good > 0 && honest > 0 && good + honest == 20, "{report}");
    ensure!(served(&mut mesh)? == 20 + good, "a request was delivered twice: {report} {}", told(&mut mesh)?);
    Ok(())
}

fn tunnel(scene: &Scene) -> Result<()> {
    let mut mesh = start(scene, "fleeting")?;
    let text =
        r"GET / HTTP/1.1\r\nHost: web\r\n\r\nCONNECT db:5432 HTTP/1.1\r\nHost: db:5432\r\nConnection: close\r\n\r\n";
    let report = say(&mesh, text, &[])?;
    let heard = report["heard"].as_str().unwrap_or_default();
    ensure!(heard.starts_with("HTTP/1.1 200") && heard.contains("HTTP/1.1 501"), "{report}");
    ensure!(heard.contains("weft-reason: tunnel_refused") && report["end"] == "closed", "{report}");
    ensure!(served(&mut mesh)? == 1, "{}", told(&mut mesh)?);
    Ok(())
}
