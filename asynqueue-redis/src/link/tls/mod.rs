//! What TLS adds to connections.

use redis::{
    Client, ConnectionAddr, ConnectionInfo, RedisResult, TlsMode, cluster::ClusterClientBuilder,
    sentinel::SentinelClientBuilder,
};

use crate::options::RedisOptions;

/// rustls leaves it to the program which library does the arithmetic. Where the program has not chosen, it is ring.
pub(super) fn prepare(options: &RedisOptions) {
    if options.tls.is_some() && rustls::crypto::CryptoProvider::get_default().is_none() {
        // Another thread may have been first, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
    }
}

pub(super) fn address(options: &RedisOptions, host: &str, port: u16) -> ConnectionAddr {
    match &options.tls {
        None => ConnectionAddr::Tcp(host.into(), port),
        Some(tls) => ConnectionAddr::TcpTls {
            host: host.into(),
            port,
            insecure: tls.is_insecure,
            tls_params: None,
        },
    }
}

pub(super) fn client(options: &RedisOptions, info: ConnectionInfo) -> RedisResult<Client> {
    match options.tls.as_ref().and_then(|tls| tls.certificates()) {
        Some(certificates) => Client::build_with_tls(info, certificates),
        None => Client::open(info),
    }
}

pub(super) fn sentinel(
    options: &RedisOptions,
    mut builder: SentinelClientBuilder,
) -> SentinelClientBuilder {
    if let Some(mode) = mode(options) {
        builder = builder
            .set_client_to_redis_tls_mode(mode)
            .set_client_to_sentinel_tls_mode(mode);
    }
    if let Some(certificates) = options.tls.as_ref().and_then(|tls| tls.certificates()) {
        builder = builder
            .set_client_to_redis_certificates(certificates.clone())
            .set_client_to_sentinel_certificates(certificates);
    }
    builder
}

pub(super) fn cluster(
    options: &RedisOptions,
    mut builder: ClusterClientBuilder,
) -> ClusterClientBuilder {
    if let Some(mode) = mode(options) {
        builder = builder.tls(mode);
    }
    if let Some(certificates) = options.tls.as_ref().and_then(|tls| tls.certificates()) {
        builder = builder.certs(certificates);
    }
    builder
}

fn mode(options: &RedisOptions) -> Option<TlsMode> {
    let tls = options.tls.as_ref()?;
    Some(if tls.is_insecure {
        TlsMode::Insecure
    } else {
        TlsMode::Secure
    })
}
