//! Servers with TLS, and certificates for them.

use std::os::unix::fs::PermissionsExt;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName, DnType, IsCa, KeyPair,
};
use tempfile::TempDir;

use crate::{Postgres, RedisServer, process::free_port, user::User};

/// Files with certificates for `localhost` and for a client, and the CA that has signed both. The system does not trust
/// it.
#[derive(Debug)]
struct Certificates(TempDir);

impl Certificates {
    /// Creates files that this user can read.
    fn for_user(user: User) -> Self {
        let files = tempfile::tempdir().unwrap();
        let mut ca = CertificateParams::new(Vec::new()).unwrap();
        ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        ca.distinguished_name = named("the signer");
        let ca = CertifiedIssuer::self_signed(ca, KeyPair::generate().unwrap()).unwrap();
        let write = |name: &str, pem: String| {
            let file = files.path().join(name);
            std::fs::write(&file, pem).unwrap();
            // PostgreSQL requires a key that others cannot read.
            std::fs::set_permissions(&file, PermissionsExt::from_mode(0o600)).unwrap();
            user.own(&file);
        };
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
        user.own(files.path());
        Self(files)
    }

    fn file(&self, name: &str) -> String {
        self.0.path().join(name).to_str().unwrap().to_owned()
    }
}

/// A unique name: otherwise a certificate appears to be self-signed.
fn named(name: &str) -> DistinguishedName {
    let mut distinguished = DistinguishedName::new();
    distinguished.push(DnType::CommonName, name);
    distinguished
}

/// A Redis with a TLS port.
#[derive(Debug)]
pub struct TlsRedis {
    files: Certificates,
    port: u16,
    _server: RedisServer,
}

impl TlsRedis {
    /// Starts a server, which may require client certificates.
    pub async fn start(asks_clients: bool) -> Self {
        let (files, port) = (Certificates::for_user(User::Current), free_port());
        let server = RedisServer::with(&[
            "--tls-port",
            &port.to_string(),
            "--tls-cert-file",
            &files.file("server.pem"),
            "--tls-key-file",
            &files.file("server.key"),
            "--tls-ca-cert-file",
            &files.file("ca.pem"),
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
        self.files.file(name)
    }
}

/// A PostgreSQL on which the superuser `tls` needs TLS. The user `postgres`, as which tests prepare it, does not.
#[derive(Debug)]
pub struct TlsPostgres {
    files: Certificates,
    server: Postgres,
}

impl TlsPostgres {
    /// Starts a server, which may require client certificates.
    pub async fn start(asks_clients: bool) -> Self {
        let user = User::unprivileged();
        let files = Certificates::for_user(user);
        let rules = files.file("pg_hba.conf");
        let client = if asks_clients {
            "clientcert=verify-ca"
        } else {
            ""
        };
        let lines = [
            "host all postgres 127.0.0.1/32 trust".to_owned(),
            format!("hostssl all tls 127.0.0.1/32 trust {client}\n"),
        ];
        std::fs::write(&rules, lines.join("\n")).unwrap();
        let settings = [
            "ssl=on".to_owned(),
            format!("ssl_cert_file={}", files.file("server.pem")),
            format!("ssl_key_file={}", files.file("server.key")),
            format!("ssl_ca_file={}", files.file("ca.pem")),
            format!("hba_file={rules}"),
        ];
        let server = Postgres::with(&settings.each_ref().map(String::as_str)).await;
        server.execute("create role tls superuser login").await;
        Self { files, server }
    }

    /// The URL for the user `tls`, without parameters. No CA that the system trusts has signed its certificate.
    pub fn bare_url(&self) -> String {
        format!("postgres://tls@127.0.0.1:{}/postgres", self.server.port())
    }

    /// The path of one of its files: `ca.pem`, `client.pem`, `client.key`.
    pub fn file(&self, name: &str) -> String {
        self.files.file(name)
    }

    /// The server.
    pub fn server(&self) -> &Postgres {
        &self.server
    }
}
