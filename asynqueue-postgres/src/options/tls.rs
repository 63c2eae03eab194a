//! How connections are encrypted.

use std::path::PathBuf;

use asynqueue_core::broker::kit::read_pem;

use super::OptionsError;

/// How strict TLS is, as in `libpq`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum SslMode {
    Disable,
    /// Encrypted if the server offers it.
    #[default]
    Prefer,
    /// Encrypted. The certificate is not verified.
    Require,
    /// The certificate is signed by a trusted CA.
    VerifyCa,
    /// It is, and it names the host.
    VerifyFull,
}

/// The TLS settings. Files are read when the options are parsed.
#[derive(Clone, Default)]
pub(crate) struct TlsOptions {
    pub(crate) mode: SslMode,
    pub(crate) ca: Option<Vec<u8>>,
    /// The client certificate and its key.
    pub(crate) client: Option<(Vec<u8>, Vec<u8>)>,
}

impl SslMode {
    pub(super) fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "disable" => Self::Disable,
            "allow" | "prefer" => Self::Prefer,
            "require" => Self::Require,
            "verify-ca" => Self::VerifyCa,
            "verify-full" => Self::VerifyFull,
            _ => return None,
        })
    }

    /// What the client library does about it.
    pub(super) fn of_config(self) -> tokio_postgres::config::SslMode {
        match self {
            Self::Disable => tokio_postgres::config::SslMode::Disable,
            Self::Prefer => tokio_postgres::config::SslMode::Prefer,
            _ => tokio_postgres::config::SslMode::Require,
        }
    }
}

/// The content of a PEM file.
pub(super) fn read(name: &'static str, file: PathBuf) -> Result<Vec<u8>, OptionsError> {
    read_pem(&file).map_err(|reason| OptionsError::File { name, file, reason })
}
