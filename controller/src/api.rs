//! The Kubernetes API as every part uses it: how to reach it, and what its refusals mean.
//!
//! The controller's token is read from its file again at least once a minute, so one that is renewed there is used.
//! Absent: what is asked for (`source/kubernetes`, `status/kubernetes`, `leader`, `review`, `ca/secret`).

use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::core::Status;
use kube::{Client, Config, Error};

use crate::limits;
use crate::source::Defect;

/// By a kubeconfig file; without one, as a pod is told.
pub async fn connect(kubeconfig: Option<&Path>) -> anyhow::Result<Client> {
    let mut config = match kubeconfig {
        Some(path) => {
            let file = Kubeconfig::read_from(path).with_context(|| format!("cannot read {}", path.display()))?;
            let options = KubeConfigOptions::default();
            let read = Config::from_custom_kubeconfig(file, &options).await;
            read.with_context(|| format!("{} does not say how to reach the API server", path.display()))?
        }
        None => Config::incluster().context("this is not a pod of a cluster; outside of one, name a --kubeconfig")?,
    };
    config.connect_timeout = Some(limits::API_CONNECT_TIMEOUT);
    config.read_timeout = Some(limits::API_READ_TIMEOUT);
    config.reset_reader_on_write = true;
    // Each part pauses in its own way, and says what is wrong meanwhile.
    config.default_retry = false;
    Client::try_from(config).context("cannot make a client of the Kubernetes API")
}

/// One kind of request, as roles name it.
#[derive(Debug, Clone, Copy)]
pub struct Access {
    pub verb: &'static str,
    /// Empty for the core group.
    pub group: &'static str,
    /// With the subresource, such as `httproutes/status`.
    pub resource: &'static str,
}

/// The API server did not do what it was asked: it may do so later.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct Unanswered(pub Defect);

/// What is wrong when `access` failed with `error`, and who can mend it.
#[must_use]
pub fn fault(access: Access, error: &Error) -> Defect {
    let (problem, fix) = if let Error::Api(status) = error {
        refusal(access, status)
    } else {
        (
            format!("the API server cannot be reached: {}", innermost(error)),
            "look at the API server and the way to it; what was read stays in use until then".to_owned(),
        )
    };
    Defect { file: None, line: 0, object: None, key: None, field: None, problem, fix }
}

/// Problem and fix.
fn refusal(Access { verb, group, resource }: Access, status: &Status) -> (String, String) {
    let of_group = if group.is_empty() { String::new() } else { format!(" of {group}") };
    match status.code {
        403 => (
            format!("the controller may not {verb} {resource}{of_group}: {}", status.message),
            format!("give its role the rule apiGroups: [{group:?}], resources: [{resource:?}], verbs: [{verb:?}]"),
        ),
        401 => (
            "the API server does not accept the controller's credential".to_owned(),
            "look at the controller's service account and its token; what was read stays in use until then".to_owned(),
        ),
        404 => (format!("the API server does not serve {resource}{of_group}"), "install their definitions".to_owned()),
        code => (
            format!("the API server refuses to {verb} {resource}{of_group}: {} ({code})", status.message),
            "look at the API server; what was read stays in use until then".to_owned(),
        ),
    }
}

/// The layers around it say only that a request failed.
fn innermost(error: &Error) -> String {
    let mut inner: &dyn std::error::Error = error;
    while let Some(source) = inner.source() {
        inner = source;
    }
    inner.to_string()
}

#[must_use]
pub fn is(error: &Error, code: u16) -> bool {
    matches!(error, Error::Api(status) if status.code == code)
}

/// Waits longer after each failure, and never as long as the next one.
#[derive(Debug, Default)]
pub struct Patience {
    failures: u32,
}

impl Patience {
    pub fn reset(&mut self) {
        self.failures = 0;
    }

    /// Between a half and the whole of what doubles up to [`limits::API_PAUSE_MAXIMUM`].
    pub async fn pause(&mut self) {
        let longest =
            limits::API_PAUSE_MINIMUM.saturating_mul(1 << self.failures.min(16)).min(limits::API_PAUSE_MAXIMUM);
        self.failures += 1;
        tokio::time::sleep(jittered(longest)).await;
    }
}

/// Between a half and the whole.
#[must_use]
pub fn jittered(longest: Duration) -> Duration {
    longest.mul_f64(rand::random_range(0.5..=1.0))
}

#[cfg(test)]
pub mod stage;
