//! TLS: the trusted CA and the client certificate.

#[cfg(feature = "tls")]
use std::fmt;
use std::path::PathBuf;

#[cfg(feature = "tls")]
use asynqueue_core::broker::kit::read_pem;
#[cfg(feature = "tls")]
use redis::{ClientTlsConfig, TlsCertificates};

use super::OptionsError;

/// The TLS settings. Files are read when the options are parsed.
#[cfg(feature = "tls")]
#[derive(Clone, Default)]
pub(crate) struct Tls {
    ca: Option<Vec<u8>>,
    client: Option<ClientTlsConfig>,
    /// Accepts any server certificate.
    pub(crate) is_insecure: bool,
}

/// Without the feature `tls` there is no value of this type, because no URL can require TLS.
#[cfg(not(feature = "tls"))]
#[derive(Clone, Debug)]
pub(crate) enum Tls {}

/// Paths of the files, as they were written.
#[derive(Default)]
pub(super) struct TlsFiles {
    pub(super) ca: Option<PathBuf>,
    pub(super) cert: Option<PathBuf>,
    pub(super) key: Option<PathBuf>,
    pub(super) is_insecure: bool,
}

impl TlsFiles {
    /// The name of the first TLS parameter in the URL.
    pub(super) fn given(&self) -> Option<&'static str> {
        [
            (self.ca.is_some(), "ca"),
            (self.cert.is_some(), "cert"),
            (self.key.is_some(), "key"),
            (self.is_insecure, "insecure_skip_verify"),
        ]
        .into_iter()
        .find_map(|(given, name)| given.then_some(name))
    }

    #[cfg(not(feature = "tls"))]
    pub(super) fn read(self, scheme: &str) -> Result<Tls, OptionsError> {
        Err(OptionsError::NoTls(scheme.to_owned()))
    }

    #[cfg(feature = "tls")]
    pub(super) fn read(self, _scheme: &str) -> Result<Tls, OptionsError> {
        let client = match (self.cert, self.key) {
            (Some(cert), Some(key)) => Some(ClientTlsConfig {
                client_cert: read("cert", cert)?,
                client_key: read("key", key)?,
            }),
            (Some(_), None) => return Err(OptionsError::HalfCertificate("`key`")),
            (None, Some(_)) => return Err(OptionsError::HalfCertificate("`cert`")),
            (None, None) => None,
        };
        Ok(Tls {
            ca: self.ca.map(|file| read("ca", file)).transpose()?,
            client,
            is_insecure: self.is_insecure,
        })
    }
}

#[cfg(feature = "tls")]
fn read(name: &'static str, file: PathBuf) -> Result<Vec<u8>, OptionsError> {
    read_pem(&file).map_err(|reason| OptionsError::File { name, file, reason })
}

#[cfg(feature = "tls")]
impl Tls {
    /// The certificates, if any differ from the system's.
    pub(crate) fn certificates(&self) -> Option<TlsCertificates> {
        let some = self.ca.is_some() || self.client.is_some();
        some.then(|| TlsCertificates {
            client_tls: self.client.clone(),
            root_cert: self.ca.clone(),
        })
    }
}

#[cfg(feature = "tls")]
impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tls")
            .field("own_ca", &self.ca.is_some())
            .field("client_certificate", &self.client.is_some())
            .field("is_insecure", &self.is_insecure)
            .finish()
    }
}
