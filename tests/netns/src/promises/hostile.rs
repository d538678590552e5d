//! Peers that lie, stammer or shout. None gets through, none harms the others.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use weft_rig::Mesh;
use weft_rig::place::{Launch, Outcome};

use super::faults;
use crate::cast::{self, ECHO, at, server_mtls};
use crate::scene::{Promise, Scene};

/// Handshake, preamble and what follows are bounded; this is above the bound.
const PATIENCE: Duration = Duration::from_secs(15);
/// Bytes follow the preamble as they are.
const OPAQUE: u8 = 2;

pub fn promises() -> Vec<Promise> {
    vec![
        Promise::new("bytes_that_are_no_handshake_are_refused", no_handshake),
        Promise::new("false_certificates_are_refused_by_name", false_certificates),
        Promise::new("a_hostile_preamble_is_refused_within_bounds", hostile_preamble),
        Promise::new("a_peer_one_feature_ahead_is_told_so_and_harms_nobody", feature_ahead),
    ]
}

fn strict_shop(scene: &Scene) -> Result<Mesh> {
    cast::start(cast::shop(scene)?.object(server_mtls("strict", &json!({"mtls": "Strict"}))), scene)
}

/// The mesh works as before and no agent was restarted.
fn expect_unharmed(mesh: &mut Mesh, serving: &[i32]) -> Result<()> {
    cast::expect_ok(mesh, "shop/client", &at(mesh, "shop/server", ECHO)?)?;
    ensure!(mesh.node(2)?.serving_pids() == serving, "the agent was restarted");
    Ok(())
}

fn no_handshake(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let serving = mesh.node(2)?.serving_pids();
    let to = at(&mesh, "shop/server", ECHO)?;
    let shouts = [
        ("nothing", "true"),
        ("one byte of a handshake", r"printf '\026'"),
        ("a record without its body", r"printf '\026\003\001\002\000\001\000\001\374\003\003'"),
        ("a record longer than allowed", r"printf '\026\003\001\377\377'; head -c 100000 /dev/zero"),
        ("noise", "head -c 1000000 /dev/urandom"),
        ("another protocol", r"printf 'GET / HTTP/1.1\r\n\r\n'"),
    ];
    for (what, line) in shouts {
        let shell = format!("({line}) 2>/dev/null | timeout 12 socat -t 12 - TCP:{to}");
        let outcome = mesh.pod("outside/stranger")?.command("sh").args(["-c", &shell]).within(PATIENCE).run()?;
        ensure!(!outcome.stdout.contains("GET"), "{what} reached the application: {outcome:?}");
    }
    expect_unharmed(&mut mesh, &serving)
}

/// The first private key in a folder or below it.
fn key_below(folder: &Path) -> Result<Option<PathBuf>> {
    for entry in fs::read_dir(folder)? {
        let path = entry?.path();
        let found = if path.is_dir() {
            key_below(&path)?
        } else {
            fs::read_to_string(&path).is_ok_and(|text| text.contains("PRIVATE KEY")).then_some(path)
        };
        if found.is_some() {
            return Ok(found);
        }
    }
    Ok(None)
}

/// A folder with certificates made by the `openssl` command.
pub struct Forge {
    folder: PathBuf,
    authority: [PathBuf; 2],
}

impl Forge {
    /// Forges below the mesh's own authority, whose key a test may read.
    pub fn with_stolen_key(mesh: &mut Mesh) -> Result<Self> {
        let folder = mesh.scratch().join("forge");
        fs::create_dir_all(&folder)?;
        let state = mesh.controller()?.state_dir();
        let key = key_below(&state)?.context("the controller keeps no key")?;
        Ok(Self { folder, authority: [mesh.controller()?.certificate(), key] })
    }

    /// Forges below an authority of its own.
    pub fn with_own_key(mesh: &Mesh) -> Result<Self> {
        let folder = mesh.scratch().join("own-forge");
        fs::create_dir_all(&folder)?;
        let authority = [folder.join("root.pem"), folder.join("root.key")];
        let [certificate, key] = &authority;
        openssl(
            &[
                "req",
                "-x509",
                "-newkey",
                "ec",
                "-pkeyopt",
                "ec_paramgen_curve:P-256",
                "-nodes",
                "-days",
                "2",
                "-subj",
                "/CN=own",
            ],
            &[("-out", certificate), ("-keyout", key)],
        )?;
        Ok(Self { folder, authority })
    }

    /// A certificate with these subject alternative names; returns it and its key.
    pub fn certificate(&self, name: &str, alternatives: &str, days: &str) -> Result<[PathBuf; 2]> {
        let file = |end: &str| self.folder.join(format!("{name}.{end}"));
        let (certificate, key, request, extensions) = (file("pem"), file("key"), file("csr"), file("ext"));
        fs::write(
            &extensions,
            format!(
                "subjectAltName={alternatives}\nkeyUsage=critical,digitalSignature\nextendedKeyUsage=clientAuth,serverAuth\nbasicConstraints=critical,CA:FALSE\n"
            ),
        )?;
        openssl(
            &["req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/"],
            &[("-out", &request), ("-keyout", &key)],
        )?;
        let [authority, authority_key] = &self.authority;
        openssl(
            &["x509", "-req", "-days", days, "-set_serial", "7"],
            &[
                ("-in", &request),
                ("-out", &certificate),
                ("-CA", authority),
                ("-CAkey", authority_key),
                ("-extfile", &extensions),
            ],
        )?;
        Ok([certificate, key])
    }
}

fn openssl(words: &[&str], files: &[(&str, &Path)]) -> Result<()> {
    let command =
        files.iter().fold(Launch::new("openssl").args(words), |command, (flag, file)| command.arg(flag).arg(file));
    command.run()?.expect_success().map(drop)
}

/// A whole handshake from outside the mesh, then `payload`; the answer is what came back.
pub fn shake_hands(mesh: &Mesh, pair: Option<&[PathBuf; 2]>, payload: &str) -> Result<Outcome> {
    let certificate = pair.map_or_else(String::new, |[certificate, key]| {
        format!("-cert {} -key {}", certificate.display(), key.display())
    });
    let to = at(mesh, "shop/server", ECHO)?;
    let line = format!(
        "(sleep 0.3; {payload}; sleep 1) | timeout 12 openssl s_client -quiet -no_ign_eof -tls1_3 -alpn weft/1 {certificate} -connect {to}"
    );
    mesh.pod("outside/stranger")?.command("sh").args(["-c", &line]).within(PATIENCE).run()
}

pub const PING: &str = r"printf 'ping\n'";

fn false_certificates(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let serving = mesh.node(2)?.serving_pids();
    let own = Forge::with_own_key(&mesh)?;
    let stolen = Forge::with_stolen_key(&mut mesh)?;
    let client = "URI:spiffe://cluster.local/ns/shop/sa/client";
    let cases = [
        (None, "certificate_missing"),
        (Some(own.certificate("untrusted", client, "1")?), "certificate_untrusted"),
        (Some(stolen.certificate("expired", client, "-1")?), "certificate_expired"),
        (Some(stolen.certificate("foreign", "URI:spiffe://elsewhere.example/ns/shop/sa/client", "1")?), "certificate_"),
        (
            Some(stolen.certificate("twice", &format!("{client},URI:spiffe://cluster.local/ns/shop/sa/other"), "1")?),
            "certificate_malformed",
        ),
        (Some(stolen.certificate("nobody", "DNS:server.shop", "1")?), "certificate_malformed"),
    ];
    for (pair, reason) in &cases {
        let outcome = shake_hands(&mesh, pair.as_ref(), PING)?;
        ensure!(!outcome.stdout.contains("ping"), "{reason}: it reached the application: {outcome:?}");
        cast::records(&mut mesh, 2, reason, |record| {
            record["reason"].as_str().is_some_and(|word| word.starts_with(reason))
        })
        .with_context(|| format!("openssl said: {}", outcome.stderr))?;
    }
    expect_unharmed(&mut mesh, &serving)
}

fn hostile_preamble(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let serving = mesh.node(2)?.serving_pids();
    let stolen = Forge::with_stolen_key(&mut mesh)?;
    let pair = stolen.certificate("client", "URI:spiffe://cluster.local/ns/shop/sa/client", "1")?;
    let preambles = [
        ("the longest length", r"printf '\377\377\377\377\377\377\377\377'; head -c 100000 /dev/zero"),
        ("a length and nothing more", r"printf '\000\000\000\100'"),
        ("noise", "head -c 4096 /dev/urandom"),
        ("the application's own words", PING),
    ];
    for (what, payload) in preambles {
        let outcome = shake_hands(&mesh, Some(&pair), payload)?;
        ensure!(!outcome.stdout.contains("ping"), "{what} reached the application: {outcome:?}");
    }
    cast::records(&mut mesh, 2, "a bad preamble", |record| record["reason"] == "bad_preamble")?;
    expect_unharmed(&mut mesh, &serving)
}

/// A preamble of this protocol version with these further fields, and what an agent would read after it.
pub fn preamble(version: u8, further: &[u8]) -> String {
    let port = faults::varint(usize::from(ECHO));
    let message = [&[1 << 3, version, 4 << 3][..], &port, &[5 << 3, OPAQUE], further].concat();
    let length = u16::try_from(message.len()).unwrap_or(u16::MAX).to_be_bytes();
    let octal = length.iter().chain(&message).map(|byte| format!("\\{byte:03o}")).collect::<Vec<_>>().concat();
    format!("printf '{octal}'; {PING}")
}

fn feature_ahead(scene: &Scene) -> Result<()> {
    let mut mesh = strict_shop(scene)?;
    let serving = mesh.node(2)?.serving_pids();
    let stolen = Forge::with_stolen_key(&mut mesh)?;
    let pair = stolen.certificate("client", "URI:spiffe://cluster.local/ns/shop/sa/client", "1")?;
    // A field that nobody has heard of yet is no reason to refuse; it also shows that the rest is well made.
    for further in [Vec::new(), faults::field(15, b"of tomorrow")] {
        let outcome = shake_hands(&mesh, Some(&pair), &preamble(1, &further))?;
        ensure!(outcome.stdout.contains("ping"), "a good preamble with {further:?} was refused: {outcome:?}");
    }
    for (what, version, further) in
        [("a feature of tomorrow", 1, faults::field(7, b"tomorrow")), ("a version of tomorrow", 2, Vec::new())]
    {
        let outcome = shake_hands(&mesh, Some(&pair), &preamble(version, &further))?;
        ensure!(!outcome.stdout.contains("ping"), "{what} was let through: {outcome:?}");
        ensure!(outcome.stdout.contains("unsupported"), "{what}: the peer was not told why: {outcome:?}");
    }
    let refusals = cast::records(&mut mesh, 2, "the refusals", |record| record["reason"] == "unsupported")?;
    ensure!(refusals.iter().any(|record| record["detail"].to_string().contains("tomorrow")), "{refusals:?}");
    expect_unharmed(&mut mesh, &serving)
}
