//! The stand-in for kube-proxy: Service addresses for whoever is not captured.
//!
//! Pure: objects in, an nftables ruleset out. Ready endpoints are drawn at random; a Service without
//! any refuses. Only what the rig's Services need: TCP, `ClusterIP`.

use std::fmt::Write;
use std::net::IpAddr;

use serde_json::Value;

use crate::directory::Directory;

/// A service address and port, and where it leads.
#[derive(Debug, PartialEq, Eq)]
struct Frontend {
    address: IpAddr,
    port: u64,
    backends: Vec<(IpAddr, u64)>,
}

/// The ruleset for every node; loading it replaces the one before.
#[must_use]
pub fn ruleset(directory: &Directory) -> String {
    let frontends = frontends(directory);
    let mut text = String::new();
    for (family, table_family) in [("ip", true), ("ip6", false)] {
        let of_family: Vec<&Frontend> = frontends.iter().filter(|one| one.address.is_ipv4() == table_family).collect();
        write_table(&mut text, family, &of_family);
    }
    text
}

fn frontends(directory: &Directory) -> Vec<Frontend> {
    let mut found = Vec::new();
    for service in directory.of_kind("Service") {
        for address in list(&service["spec"]["clusterIPs"]).filter_map(parse) {
            for port in list(&service["spec"]["ports"]) {
                let Some(number) = port["port"].as_u64() else { continue };
                let backends = backends(directory, service, address, &port["name"]);
                found.push(Frontend { address, port: number, backends });
            }
        }
    }
    found
}

fn backends(directory: &Directory, service: &Value, frontend: IpAddr, port: &Value) -> Vec<(IpAddr, u64)> {
    let of_service = |slice: &&Value| {
        slice["metadata"]["labels"]["kubernetes.io/service-name"] == service["metadata"]["name"]
            && slice["metadata"]["namespace"] == service["metadata"]["namespace"]
    };
    let mut found = Vec::new();
    for slice in directory.of_kind("EndpointSlice").filter(of_service) {
        let Some(number) = list(&slice["ports"]).find(|one| one["name"] == *port).and_then(|one| one["port"].as_u64())
        else {
            continue;
        };
        let ready = list(&slice["endpoints"]).filter(|endpoint| endpoint["conditions"]["ready"] == true);
        let addresses = ready.flat_map(|endpoint| list(&endpoint["addresses"])).filter_map(parse);
        found.extend(
            addresses.filter(|address| address.is_ipv4() == frontend.is_ipv4()).map(|address| (address, number)),
        );
    }
    found
}

fn write_table(text: &mut String, family: &str, frontends: &[&Frontend]) {
    let mut rules = String::new();
    let mut refusals = String::new();
    let mut chains = String::new();
    for (index, frontend) in frontends.iter().enumerate() {
        let to = format!("{family} daddr {} tcp dport {}", frontend.address, frontend.port);
        let count = frontend.backends.len();
        if count == 0 {
            writeln!(refusals, "    {to} reject with tcp reset").ok();
            continue;
        }
        let draw: Vec<String> = (0..count).map(|backend| format!("{backend} : goto f{index}b{backend}")).collect();
        writeln!(rules, "    {to} numgen random mod {count} vmap {{ {} }}", draw.join(", ")).ok();
        for (backend, (address, port)) in frontend.backends.iter().enumerate() {
            let target = if address.is_ipv4() { format!("{address}:{port}") } else { format!("[{address}]:{port}") };
            writeln!(chains, "  chain f{index}b{backend} {{\n    {family} saddr {address} meta mark set 0x57\n    meta l4proto tcp dnat to {target}\n  }}").ok();
        }
    }
    // Declared, deleted and written anew in one transaction: there is no moment without rules.
    let _ = write!(
        text,
        "table {family} weft-rig {{}}\ndelete table {family} weft-rig\ntable {family} weft-rig {{\n{chains}  chain services {{\n{rules}  }}\n  \
         chain prerouting {{\n    type nat hook prerouting priority dstnat; policy accept;\n    jump services\n  }}\n  \
         chain output {{\n    type nat hook output priority -100; policy accept;\n    jump services\n  }}\n  \
         chain postrouting {{\n    type nat hook postrouting priority srcnat; policy accept;\n    meta mark 0x57 masquerade\n  }}\n  \
         chain refuse {{\n{refusals}  }}\n  \
         chain early {{\n    type filter hook prerouting priority -110; policy accept;\n    jump refuse\n  }}\n  \
         chain local {{\n    type filter hook output priority -110; policy accept;\n    jump refuse\n  }}\n}}\n"
    );
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn parse(value: &Value) -> Option<IpAddr> {
    value.as_str()?.parse().ok()
}
