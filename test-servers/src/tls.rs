//! A Redis with TLS, and certificates for it.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use tempfile::TempDir;

use crate::{RedisServer, process::free_port};

/// A server with a TLS port.
#[derive(Debug)]
pub struct TlsRedis {
    files: TempDir,
    port: u16,
    _server: RedisServer,
}

impl TlsRedis {
    /// Starts a server, which may require client certificates.
    pub async fn start(asks_clients: bool) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name = named("the signer");
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, pem: String| std::fs::write(files.path().join(name), pem).unwrap();
        write("ca.pem", ca.pem());
        for name in ["server", "client"] {
            let key = KeyPair::generate().unwrap();
            let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
            let mut certificate = CertificateParams::new(names).unwrap();
            certificate.distinguished_name = named(name);
            let certificate = certificate.signed_by(&key, &ca).unwrap();
            write(&format!("{name}.pem"), certificate.pem());
            write(&format!("{name}.key"), key.serialize_pem());
        }
        let (port, file) = (free_port(), |name: &str| {
            files.path().join(name).to_str().unwrap().to_owned()
        });
        let server = RedisServer::with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &file("server.pem"),
            "--tls-key-file",
            &file("server.key"),
            "--tls-ca-cert-file",
            &file("ca.pem"),
            "--tls-auth-clients",
            if asks_clients { "yes" } else { "no" },
        ])
        .await;
        Self {
            files,
            port,
            _server: server,
        }
    }

    /// Its URL, without parameters. No CA that the system trusts has signed its certificate.
    pub fn bare_url(&self) -> String {
        format!("rediss://127.0.0.1:{}", self.port)
    }

    /// The path of one of its files: `ca.pem`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> String {
        self.files.path().join(name).to_str().unwrap().to_owned()
    }
}

/// A unique name: otherwise a certificate appears to be self-signed.
fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}
