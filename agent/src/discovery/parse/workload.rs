//! Workload rows.

use std::sync::Arc;

use weft_policy::ReadError;
use weft_proto::names::{Identity, NamespacedName, WorkloadUid};
use weft_proto::v1;

use super::Domains;
use super::fields::{addresses, mtls, name, ports, problem, same};
use crate::model::Workload;

pub fn read(uid: &str, row: &v1::Workload, domains: &Domains) -> Result<Workload, ReadError> {
    let own_uid: WorkloadUid = name("uid", uid)?;
    same("uid", &name::<WorkloadUid>("uid", &row.uid)?, &own_uid)?;
    let own_name = NamespacedName::new(&row.namespace, &row.name).map_err(|error| problem("name", error))?;
    let identity = match row.service_account.as_str() {
        "" => None,
        account => Some(
            Identity::new(&domains.name, &row.namespace, account).map_err(|error| problem("service_account", error))?,
        ),
    };
    let node = match row.node.as_str() {
        "" => None,
        node => Some(name("node", node)?),
    };
    let own_name: Arc<str> = Arc::from(own_name.to_string());
    let application = match row.application.as_str() {
        "" => Arc::clone(&own_name),
        application => Arc::from(application),
    };
    Ok(Workload {
        uid: own_uid,
        name: own_name,
        application,
        identity,
        node,
        addresses: addresses("addresses", &row.addresses)?,
        mesh_capable: row.mesh_capable,
        plaintext_permitted: row.plaintext_permitted,
        mtls: mtls("mtls", row.mtls)?,
        takes_plaintext: row.takes_plaintext,
        excluded_inbound_ports: ports("excluded_inbound_ports", &row.excluded_inbound_ports)?,
        not_capturable: (!row.not_capturable.is_empty()).then(|| Arc::from(row.not_capturable.as_str())),
    })
}
