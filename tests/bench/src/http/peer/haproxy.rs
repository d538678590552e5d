//! `HAProxy`: one process with one thread, connections to the server reused for whoever comes.

use std::fmt::Write as _;

use super::{Leg, Listener, Side};
use crate::http::certificates::FAR_NAME;

/// The log goes to standard output, which is a file: it takes the place of a log daemon.
const DEFAULTS: &str = r#"global
    nbthread 1
    maxconn 8192
    log stdout format raw local0
defaults
    mode http
    http-reuse always
    timeout connect 5s
    timeout client 1h
    timeout server 1h
    timeout http-keep-alive 1h
    backlog 4096
    log global
    log-format '{"time":"%[date,ltime(%Y-%m-%dT%H:%M:%S)]","client":"%ci:%cp","method":"%HM","host":"%[capture.req.hdr(0)]","path":"%HPO","version":"%HV","status":%ST,"bytes_received":%U,"bytes_sent":%B,"duration_ms":%Ta,"upstream":"%si:%sp","state":"%ts","frontend":"%f"}'
"#;

const SECURITY: &str = "ssl-min-ver TLSv1.3 ciphersuites TLS_AES_128_GCM_SHA256 verify required";

pub(super) fn configuration(side: &Side<'_>) -> String {
    let mut text = DEFAULTS.to_owned();
    for listener in &side.listeners {
        write(&mut text, listener, side);
    }
    text
}

fn write(text: &mut String, listener: &Listener, side: &Side<'_>) {
    let Listener { name, address, upstream, leg } = listener;
    let (authority, both) = (side.files.authority.display(), side.files.both.display());
    let bound = match leg {
        Leg::Far => format!(" ssl crt {both} ca-file {authority} {SECURITY}"),
        Leg::Hop | Leg::Near => String::new(),
    };
    let server = match leg {
        Leg::Near => {
            format!(" ssl crt {both} ca-file {authority} {SECURITY} sni str({FAR_NAME}) verifyhost {FAR_NAME}")
        }
        Leg::Hop | Leg::Far => String::new(),
    };
    // Writing to a string cannot fail.
    let _ = writeln!(
        text,
        "frontend {name}\n    bind {address}{bound}\n    http-request capture req.hdr(host) len 64\n    default_backend {name}-server\n\
         backend {name}-server\n    server one {upstream}{server}"
    );
}
