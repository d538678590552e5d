//! The algorithms, best first.

use std::sync::{Arc, LazyLock};

use rustls::SupportedCipherSuite;
use rustls::crypto::aws_lc_rs::{cipher_suite, default_provider, kx_group};
use rustls::crypto::{CryptoProvider, SupportedKxGroup};

static PROVIDER: LazyLock<Arc<CryptoProvider>> = LazyLock::new(|| {
    Arc::new(CryptoProvider { cipher_suites: cipher_suites(), kx_groups: key_exchange_groups(), ..default_provider() })
});

/// One provider for the whole process: rustls compares by address in places.
#[must_use]
pub fn provider() -> Arc<CryptoProvider> {
    Arc::clone(&PROVIDER)
}

/// The hybrid with ML-KEM first: recorded traffic stays secret even if elliptic curves fall later.
fn key_exchange_groups() -> Vec<&'static dyn SupportedKxGroup> {
    vec![kx_group::X25519MLKEM768, kx_group::X25519, kx_group::SECP256R1]
}

/// TLS 1.3 only. AES-128 first where the processor has AES: it is the fastest there and 128 bits are enough.
fn cipher_suites() -> Vec<SupportedCipherSuite> {
    let aes = [cipher_suite::TLS13_AES_128_GCM_SHA256, cipher_suite::TLS13_AES_256_GCM_SHA384];
    let mut suites = Vec::with_capacity(3);
    if has_aes() {
        suites.extend(aes);
        suites.push(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256);
    } else {
        suites.push(cipher_suite::TLS13_CHACHA20_POLY1305_SHA256);
        suites.extend(aes);
    }
    suites
}

#[cfg(target_arch = "x86_64")]
fn has_aes() -> bool {
    std::arch::is_x86_feature_detected!("aes")
}

#[cfg(target_arch = "aarch64")]
fn has_aes() -> bool {
    std::arch::is_aarch64_feature_detected!("aes")
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn has_aes() -> bool {
    false
}
