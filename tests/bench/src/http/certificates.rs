//! The peers' certificates: P-256, as Weft's own, one authority for all.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::Result;
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, PKCS_ECDSA_P256_SHA256,
};

/// The name in the certificate of the proxy beside the client.
pub(super) const NEAR_NAME: &str = "near.bench.weft.dev";
/// The name in the certificate of the proxy beside the server.
pub(super) const FAR_NAME: &str = "far.bench.weft.dev";

/// Files of one side.
#[derive(Debug, Clone)]
pub(super) struct Files {
    pub(super) authority: PathBuf,
    pub(super) chain: PathBuf,
    pub(super) key: PathBuf,
    /// Chain and key in one file.
    pub(super) both: PathBuf,
}

/// Writes an authority's certificate and those of both sides into a folder: the near one first.
pub(super) fn issue(folder: &Path) -> Result<[Files; 2]> {
    fs::create_dir_all(folder)?;
    let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
    let mut parameters = CertificateParams::default();
    parameters.distinguished_name.push(DnType::CommonName, "bench authority");
    parameters.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let authority = folder.join("authority.pem");
    fs::write(&authority, parameters.self_signed(&key)?.pem())?;
    let issuer = Issuer::new(parameters, key);
    let leaf = |name: &str, side: &str| -> Result<Files> {
        let key = KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?;
        let mut parameters = CertificateParams::new([name.to_owned()])?;
        parameters.distinguished_name.push(DnType::CommonName, name);
        parameters.use_authority_key_identifier_extension = true;
        parameters.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth];
        let chain = parameters.signed_by(&key, &issuer)?.pem();
        let at = |ending: &str| folder.join(format!("{side}.{ending}"));
        let files = Files { authority: authority.clone(), chain: at("pem"), key: at("key"), both: at("both") };
        fs::write(&files.chain, &chain)?;
        fs::write(&files.key, key.serialize_pem())?;
        fs::write(&files.both, format!("{chain}{}", key.serialize_pem()))?;
        Ok(files)
    };
    Ok([leaf(NEAR_NAME, "near")?, leaf(FAR_NAME, "far")?])
}
