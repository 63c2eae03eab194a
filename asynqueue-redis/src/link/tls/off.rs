//! Replaces TLS if the feature `tls` is off: connections are not encrypted.

use redis::{
    Client, ConnectionAddr, ConnectionInfo, RedisResult, cluster::ClusterClientBuilder,
    sentinel::SentinelClientBuilder,
};

use crate::options::RedisOptions;

pub(super) fn prepare(_: &RedisOptions) {}

pub(super) fn address(_: &RedisOptions, host: &str, port: u16) -> ConnectionAddr {
    ConnectionAddr::Tcp(host.into(), port)
}

pub(super) fn client(_: &RedisOptions, info: ConnectionInfo) -> RedisResult<Client> {
    Client::open(info)
}

pub(super) fn sentinel(_: &RedisOptions, builder: SentinelClientBuilder) -> SentinelClientBuilder {
    builder
}

pub(super) fn cluster(_: &RedisOptions, builder: ClusterClientBuilder) -> ClusterClientBuilder {
    builder
}
