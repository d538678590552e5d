//! nginx: one worker process under its parent, the default buffering, keep-alive without a bound on requests.

use std::fmt::Write as _;

use super::{Leg, Listener, Side};
use crate::http::certificates::FAR_NAME;

const HEAD: &str = "daemon off;
worker_processes 1;
worker_rlimit_nofile 65536;
error_log stderr warn;
pid nginx.pid;
events { worker_connections 8192; }
http {
    client_body_temp_path temporary;
    proxy_temp_path temporary;
    fastcgi_temp_path temporary;
    uwsgi_temp_path temporary;
    scgi_temp_path temporary;
    keepalive_timeout 1h;
    keepalive_requests 1000000000;
    proxy_http_version 1.1;
    proxy_set_header Connection \"\";
    ssl_protocols TLSv1.3;
    ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
    proxy_ssl_protocols TLSv1.3;
    proxy_ssl_conf_command Ciphersuites TLS_AES_128_GCM_SHA256;
";

const LOG: &str = r#"    log_format line escape=json '{"time":"$time_iso8601","client":"$remote_addr:$remote_port",'
        '"method":"$request_method","host":"$host","path":"$uri","version":"$server_protocol","status":$status,'
        '"request":"$request_id","bytes_received":$request_length,"bytes_sent":$bytes_sent,'
        '"duration":$request_time,"upstream":"$upstream_addr","peer":"$ssl_client_s_dn"}';
"#;

pub(super) fn configuration(side: &Side<'_>) -> String {
    let mut text = HEAD.to_owned();
    text.push_str(LOG);
    // Writing to a string cannot fail.
    let _ = writeln!(text, "    access_log {} line buffer=64k flush=1s;", side.access_log().display());
    for listener in &side.listeners {
        write(&mut text, listener, side);
    }
    text.push_str("}\n");
    text
}

fn write(text: &mut String, listener: &Listener, side: &Side<'_>) {
    let Listener { name, address, upstream, leg } = listener;
    let (authority, chain, key) = (&side.files.authority, &side.files.chain, &side.files.key);
    let (authority, chain, key) = (authority.display(), chain.display(), key.display());
    let (listen, scheme, security) = match leg {
        Leg::Hop => ("", "http", String::new()),
        Leg::Near => (
            "",
            "https",
            format!(
                "proxy_ssl_certificate {chain}; proxy_ssl_certificate_key {key}; proxy_ssl_trusted_certificate {authority}; \
                 proxy_ssl_verify on; proxy_ssl_server_name on; proxy_ssl_name {FAR_NAME};"
            ),
        ),
        Leg::Far => (
            " ssl",
            "http",
            format!(
                "ssl_certificate {chain}; ssl_certificate_key {key}; ssl_client_certificate {authority}; \
                 ssl_verify_client on;"
            ),
        ),
    };
    let _ = writeln!(
        text,
        "    upstream {name} {{ server {upstream}; keepalive 64; keepalive_timeout 1h; keepalive_requests 1000000000; }}
    server {{ listen {address}{listen} backlog=4096; {security} location / {{ proxy_pass {scheme}://{name}; }} }}"
    );
}
