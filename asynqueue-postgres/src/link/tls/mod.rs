//! Connections over TLS, by rustls.

use std::{io, sync::Arc};

use futures_util::future::BoxFuture;
use rustls::{
    ClientConfig, RootCertStore,
    client::WebPkiServerVerifier,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
};
use tokio_postgres::{CancelToken, Client, Config, Error, NoTls};
use tokio_postgres_rustls::MakeRustlsConnect;

use self::verifier::{AnyCertificate, AnyName};
use super::drive::{Hear, drive};
use crate::options::{SslMode, TlsOptions};

mod verifier;

/// How to connect.
#[derive(Clone)]
pub(crate) enum Tls {
    Off,
    On(MakeRustlsConnect),
}

impl Tls {
    /// # Errors
    ///
    /// When a certificate or key is invalid.
    pub(crate) fn new(options: &TlsOptions) -> io::Result<Self> {
        if options.mode == SslMode::Disable {
            return Ok(Self::Off);
        }
        let config = client_config(options)?;
        Ok(Self::On(MakeRustlsConnect::new(config)))
    }

    /// Opens a connection. The future drives it.
    pub(crate) async fn connect(
        &self,
        config: &Config,
        hear: Hear,
    ) -> Result<(Client, BoxFuture<'static, ()>), Error> {
        match self {
            Self::Off => {
                let (client, connection) = config.connect(NoTls).await?;
                Ok((client, Box::pin(drive(connection, hear))))
            }
            Self::On(tls) => {
                let (client, connection) = config.connect(tls.clone()).await?;
                Ok((client, Box::pin(drive(connection, hear))))
            }
        }
    }

    /// Cancels what a connection does, as it was opened.
    pub(crate) async fn cancel(&self, token: CancelToken) -> Result<(), Error> {
        match self {
            Self::Off => token.cancel_query(NoTls).await,
            Self::On(tls) => token.cancel_query(tls.clone()).await,
        }
    }
}

fn client_config(options: &TlsOptions) -> io::Result<ClientConfig> {
    let provider = Arc::new(ring::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(io::Error::other)?;
    let builder = match options.mode {
        SslMode::VerifyFull => builder.with_root_certificates(roots(options)?),
        SslMode::VerifyCa => {
            let verifier =
                WebPkiServerVerifier::builder_with_provider(roots(options)?.into(), provider)
                    .build()
                    .map_err(io::Error::other)?;
            let verifier = Arc::new(AnyName(verifier));
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
        _ => {
            let verifier = Arc::new(AnyCertificate(provider));
            builder
                .dangerous()
                .with_custom_certificate_verifier(verifier)
        }
    };
    let Some((cert, key)) = &options.client else {
        return Ok(builder.with_no_client_auth());
    };
    let chain: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(cert).collect();
    let chain = chain.map_err(io::Error::other)?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(io::Error::other)?;
    builder
        .with_client_auth_cert(chain, key)
        .map_err(io::Error::other)
}

/// The certificates that are trusted.
fn roots(options: &TlsOptions) -> io::Result<RootCertStore> {
    let mut roots = RootCertStore::empty();
    match &options.ca {
        Some(ca) => {
            for certificate in CertificateDer::pem_slice_iter(ca) {
                let certificate = certificate.map_err(io::Error::other)?;
                roots.add(certificate).map_err(io::Error::other)?;
            }
        }
        None => {
            let found = rustls_native_certs::load_native_certs();
            roots.add_parsable_certificates(found.certs);
        }
    }
    Ok(roots)
}
