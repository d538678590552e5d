//! Envoy: one worker thread, the router as its only filter, statistics as they come.

use std::path::Path;

use serde_json::{Value, json};
use weft_rig::place::Launch;

use super::{Leg, Listener, Side};
use crate::http::certificates::{FAR_NAME, NEAR_NAME};

const PREFIX: &str = "type.googleapis.com/envoy.extensions";

/// Hot restarts are switched off, since they need memory that is shared between namespaces.
pub(super) fn launch(launch: Launch, configuration: &Path) -> Launch {
    let launch = launch.args(["--concurrency", "1", "--disable-hot-restart", "--log-level", "warning"]);
    launch.arg("--config-path").arg(configuration)
}

pub(super) fn configuration(side: &Side<'_>) -> String {
    let listeners: Vec<Value> = side.listeners.iter().map(|listener| listen(listener, side)).collect();
    let clusters: Vec<Value> = side.listeners.iter().map(|listener| cluster(listener, side)).collect();
    json!({"static_resources": {"listeners": listeners, "clusters": clusters}}).to_string()
}

fn listen(listener: &Listener, side: &Side<'_>) -> Value {
    let name = listener.name;
    let mut chain = json!({"filters": [{
        "name": "http",
        "typed_config": {
            "@type": format!("{PREFIX}.filters.network.http_connection_manager.v3.HttpConnectionManager"),
            "stat_prefix": name,
            "access_log": access_log(side),
            "route_config": {"virtual_hosts": [{
                "name": name, "domains": ["*"],
                "routes": [{"match": {"prefix": "/"}, "route": {"cluster": name}}],
            }]},
            "http_filters": [{
                "name": "router",
                "typed_config": {"@type": format!("{PREFIX}.filters.http.router.v3.Router")},
            }],
        },
    }]});
    if listener.leg == Leg::Far {
        chain["transport_socket"] = json!({"name": "tls", "typed_config": {
            "@type": format!("{PREFIX}.transport_sockets.tls.v3.DownstreamTlsContext"),
            "require_client_certificate": true,
            "common_tls_context": tls(side, NEAR_NAME),
        }});
    }
    json!({"name": name, "address": address(listener.address), "filter_chains": [chain], "tcp_backlog_size": 4096})
}

fn cluster(listener: &Listener, side: &Side<'_>) -> Value {
    let name = listener.name;
    let endpoint = json!({"endpoint": {"address": address(listener.upstream)}});
    let mut cluster = json!({
        "name": name, "type": "STATIC", "connect_timeout": "5s",
        "load_assignment": {"cluster_name": name, "endpoints": [{"lb_endpoints": [endpoint]}]},
    });
    if listener.leg == Leg::Near {
        cluster["transport_socket"] = json!({"name": "tls", "typed_config": {
            "@type": format!("{PREFIX}.transport_sockets.tls.v3.UpstreamTlsContext"),
            "sni": FAR_NAME,
            "common_tls_context": tls(side, FAR_NAME),
        }});
    }
    cluster
}

/// `BoringSSL` chooses AES-128-GCM by itself where the processor has AES.
fn tls(side: &Side<'_>, peer: &str) -> Value {
    json!({
        "tls_params": {"tls_minimum_protocol_version": "TLSv1_3", "tls_maximum_protocol_version": "TLSv1_3"},
        "tls_certificates": [{
            "certificate_chain": {"filename": side.files.chain}, "private_key": {"filename": side.files.key},
        }],
        "validation_context": {
            "trusted_ca": {"filename": side.files.authority},
            "match_typed_subject_alt_names": [{"san_type": "DNS", "matcher": {"exact": peer}}],
        },
    })
}

fn access_log(side: &Side<'_>) -> Value {
    let file = side.access_log();
    let format = json!({
        "time": "%START_TIME%", "client": "%DOWNSTREAM_REMOTE_ADDRESS%", "method": "%REQ(:METHOD)%",
        "host": "%REQ(:AUTHORITY)%", "path": "%REQ(:PATH)%", "version": "%PROTOCOL%", "status": "%RESPONSE_CODE%",
        "request": "%REQ(X-REQUEST-ID)%", "bytes_received": "%BYTES_RECEIVED%", "bytes_sent": "%BYTES_SENT%",
        "duration": "%DURATION%", "reason": "%RESPONSE_FLAGS%", "upstream": "%UPSTREAM_HOST%",
        "cluster": "%UPSTREAM_CLUSTER%", "peer": "%DOWNSTREAM_PEER_URI_SAN%",
    });
    json!([{
        "name": "file",
        "typed_config": {
            "@type": format!("{PREFIX}.access_loggers.file.v3.FileAccessLog"),
            "path": file, "log_format": {"json_format": format},
        },
    }])
}

fn address(address: std::net::SocketAddr) -> Value {
    json!({"socket_address": {"address": address.ip(), "port_value": address.port()}})
}
