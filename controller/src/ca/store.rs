//! Where the roots are kept: made once there, changed only from what they are known to be, and what witnesses of them.

use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use rustls::pki_types::CertificateDer;
use rustls::pki_types::pem::PemObject as _;
use weft_proto::names::TrustDomain;

use super::folder::Folder;
use super::record::{Record, Roots};
use super::report::RootReport;
use super::root::Written;
use super::secret::Cluster;

#[derive(Debug)]
pub enum Store {
    Folder(Folder),
    Cluster(Box<Cluster>),
}

/// What says which root agents believe, beside the record itself.
#[derive(Debug, Default)]
pub struct Traces {
    /// Certificates in PEM, by which agents know us.
    pub published: Option<Trace>,
    /// A fingerprint.
    pub remembered: Option<Trace>,
    /// The name of anything else that would not be there without a root.
    pub witness: Option<String>,
}

#[derive(Debug)]
pub struct Trace {
    pub text: String,
    /// The API's, from which alone it is changed.
    pub version: Option<String>,
}

/// Of things, for people.
#[derive(Debug)]
pub struct Names {
    pub record: String,
    pub published: String,
    pub remembered: String,
    /// What one does who wants another mesh.
    pub begin_anew: String,
}

impl Store {
    /// What is kept, or what was just made if there never was anything.
    pub async fn open(&self, trust_domain: &TrustDomain, overlap: Duration) -> anyhow::Result<Roots> {
        let (names, traces) = (self.names(), self.traces().await?);
        let record = match (self.read().await?, traces.of_a_root(&names)) {
            (Some(record), _) => record,
            (None, Some(trace)) => bail!(
                "{} is missing, but {trace} says that a root existed: agents trust that one, and another would cut them \
                 off; restore it, or {} to begin a new mesh",
                names.record,
                names.begin_anew
            ),
            (None, None) => {
                let made = Record::new(Written::make(trust_domain)?, overlap);
                if self.create(&made).await? {
                    tracing::info!(place = names.record, "made the root of this mesh");
                }
                // Ours, or that of a controller that was faster.
                self.read().await?.with_context(|| format!("{} came and went; begin again", names.record))?
            }
        };
        let roots = self.parse(record)?;
        traces.agree(&roots, &names)?;
        self.announce(&roots, &traces, false).await?;
        Ok(roots)
    }

    pub fn parse(&self, record: Record) -> anyhow::Result<Roots> {
        Roots::parse(record).with_context(|| format!("{} holds no root", self.names().record))
    }

    pub fn names(&self) -> Names {
        match self {
            Self::Folder(folder) => folder.names(),
            Self::Cluster(cluster) => cluster.names(),
        }
    }

    /// None: there is nothing.
    pub async fn read(&self) -> anyhow::Result<Option<Record>> {
        match self {
            Self::Folder(folder) => folder.read(),
            Self::Cluster(cluster) => Box::pin(cluster.read()).await,
        }
    }

    pub async fn traces(&self) -> anyhow::Result<Traces> {
        match self {
            Self::Folder(folder) => folder.traces(),
            Self::Cluster(cluster) => Box::pin(cluster.traces()).await,
        }
    }

    /// False: it is not `before` any more, and nothing was changed.
    pub async fn replace(&self, before: &Record, after: &Record) -> anyhow::Result<bool> {
        match self {
            Self::Folder(folder) => folder.replace(before, after),
            Self::Cluster(cluster) => Box::pin(cluster.replace(before, after)).await,
        }
    }

    /// Makes traces where there are none, and has `all` of them say what the roots are. `traces` were read before the roots
    /// were, and agree with them. False: somebody else has changed them since.
    pub async fn announce(&self, roots: &Roots, traces: &Traces, all: bool) -> anyhow::Result<bool> {
        match self {
            Self::Folder(folder) => folder.announce(roots).map(|()| true),
            Self::Cluster(cluster) => Box::pin(cluster.announce(roots, traces, all)).await,
        }
    }

    /// Says how it stands with the roots where people look. False: somebody else wrote there at the same time.
    pub async fn tell(&self, report: &RootReport) -> anyhow::Result<bool> {
        match self {
            // They ask the controller itself.
            Self::Folder(_) => Ok(true),
            Self::Cluster(cluster) => Box::pin(cluster.tell(report)).await,
        }
    }

    async fn create(&self, record: &Record) -> anyhow::Result<bool> {
        match self {
            Self::Folder(folder) => folder.create(record),
            Self::Cluster(cluster) => Box::pin(cluster.create(record)).await,
        }
    }
}

impl Traces {
    fn of_a_root<'a>(&'a self, names: &'a Names) -> Option<&'a str> {
        let published = self.published.as_ref().map(|_| names.published.as_str());
        let remembered = self.remembered.as_ref().map(|_| names.remembered.as_str());
        published.or(remembered).or(self.witness.as_deref())
    }

    /// Nobody was told of a root that is not among these.
    pub fn agree(&self, roots: &Roots, names: &Names) -> anyhow::Result<()> {
        let ours = || roots.all().map(|root| root.fingerprint.as_str()).collect::<Vec<_>>().join(" and ");
        if let Some(known) = &self.remembered {
            ensure!(
                roots.all().any(|root| root.fingerprint == known.text),
                "our root has fingerprint {}, but {} says that agents trust {}",
                ours(),
                names.remembered,
                known.text
            );
        }
        if let Some(known) = &self.published {
            let certificates: Vec<CertificateDer<'_>> =
                CertificateDer::pem_slice_iter(known.text.as_bytes()).collect::<Result<_, _>>().unwrap_or_default();
            ensure!(
                !certificates.is_empty() && certificates.iter().all(|certificate| roots.holds(certificate)),
                "{} holds another root than {}, and agents trust what is in it",
                names.published,
                names.record
            );
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::path::Path;

    use super::*;

    async fn open(state_dir: &Path) -> anyhow::Result<Roots> {
        let store = Store::Folder(Folder::new(state_dir)?);
        store.open(&"cluster.local".parse()?, Duration::from_hours(48)).await
    }

    #[tokio::test]
    async fn a_root_is_made_once_and_stays() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).await.unwrap().record;
        assert_eq!(open(folder.path()).await.unwrap().record, first);
        assert_eq!(fs::read_to_string(folder.path().join("ca.pem")).unwrap(), first.bundle());
    }

    #[tokio::test]
    async fn only_the_owner_reads_the_key() {
        use std::os::unix::fs::PermissionsExt as _;
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).await.unwrap();
        for file in ["ca/root.key", "ca/root.pem", "ca.pem", "ca-fingerprint"] {
            let mode = fs::metadata(folder.path().join(file)).unwrap().permissions().mode();
            assert_eq!(mode & 0o777, 0o600, "{file}");
        }
    }

    #[tokio::test]
    async fn a_lost_or_exchanged_root_is_never_replaced() {
        let folder = tempfile::tempdir().unwrap();
        open(folder.path()).await.unwrap();
        fs::rename(folder.path().join("ca"), folder.path().join("elsewhere")).unwrap();
        let error = open(folder.path()).await.expect_err("another root was made").to_string();
        assert!(error.contains("says that a root existed"), "{error}");

        let other = tempfile::tempdir().unwrap();
        open(other.path()).await.unwrap();
        fs::rename(other.path().join("ca"), folder.path().join("ca")).unwrap();
        let error = open(folder.path()).await.expect_err("an exchanged root was taken").to_string();
        assert!(error.contains("fingerprint"), "{error}");
    }

    #[tokio::test]
    async fn a_folder_changes_whole_and_only_from_what_it_is_known_to_be() {
        let folder = tempfile::tempdir().unwrap();
        let first = open(folder.path()).await.unwrap().record;
        let store = Store::Folder(Folder::new(folder.path()).unwrap());
        let longer = Record { overlap: Some(Duration::from_hours(96)), ..first.clone() };
        // As a controller leaves it that was killed beside its work.
        fs::create_dir(folder.path().join("ca-beside")).unwrap();
        assert!(store.replace(&first, &longer).await.unwrap());
        assert_eq!(store.read().await.unwrap(), Some(longer));
        assert!(!store.replace(&first, &first).await.unwrap(), "what somebody else had changed was overwritten");
        assert!(!folder.path().join("ca-beside").exists(), "an old key stayed");
    }
}
