//! Protection against cross-site request forgery: a page of another site can make a browser send a change with the
//! user's credentials.
//!
//! Browsers send the origin of a request in `Sec-Fetch-Site`, or in `Origin` if they are older. Other clients send
//! neither, and cannot be tricked into sending stored credentials. Go's `http.CrossOriginProtection` uses the same
//! rule.

use std::net::IpAddr;

use axum::http::{
    HeaderMap,
    header::{HOST, ORIGIN},
};

pub(crate) fn is_same_origin(headers: &HeaderMap) -> bool {
    let mut sites = headers.get_all("sec-fetch-site").into_iter().peekable();
    if sites.peek().is_some() {
        return sites.all(|site| matches!(site.as_bytes(), b"same-origin" | b"none"));
    }
    let Some(origin) = headers.get(ORIGIN) else {
        return true;
    };
    let host = headers.get(HOST).and_then(|host| host.to_str().ok());
    let origin = origin
        .to_str()
        .ok()
        .and_then(|origin| origin.split_once("://"));
    matches!((origin, host), (Some((_, origin)), Some(host)) if origin == host)
}

/// Whether a host, with or without a port, always refers to this machine or a fixed address: an IP address or
/// `localhost`.
pub(super) fn is_this_machine(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let name = name.to_ascii_lowercase();
    let number = name.trim_start_matches('[').trim_end_matches(']');
    number.parse::<IpAddr>().is_ok() || name == "localhost" || name.ends_with(".localhost")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ip_addresses_and_localhost_are_local_and_other_names_are_not() {
        for host in [
            "127.0.0.1:8089",
            "127.0.0.1",
            "[::1]:8089",
            "localhost:1",
            "LocalHost",
            "a.localhost",
        ] {
            assert!(is_this_machine(host), "{host}");
        }
        for host in [
            "evil.example:8089",
            "localhost.evil",
            "notlocalhost",
            "",
            "127.0.0.1.evil:1",
        ] {
            assert!(!is_this_machine(host), "{host}");
        }
    }

    fn headers(pairs: &[(&'static str, &'static str)]) -> HeaderMap {
        let pairs = pairs.iter().map(|(name, value)| {
            (
                name.parse().expect("a name"),
                value.parse().expect("a value"),
            )
        });
        pairs.collect()
    }

    #[test]
    fn a_request_is_same_origin_if_its_headers_say_so_or_are_missing() {
        assert!(is_same_origin(&headers(&[])));
        assert!(is_same_origin(&headers(&[(
            "sec-fetch-site",
            "same-origin"
        )])));
        assert!(is_same_origin(&headers(&[("sec-fetch-site", "none")])));
        assert!(is_same_origin(&headers(&[
            ("host", "ops:80"),
            ("origin", "https://ops:80")
        ])));
        for site in ["cross-site", "same-site", "x"] {
            assert!(
                !is_same_origin(&headers(&[("sec-fetch-site", site)])),
                "{site}"
            );
        }
        for origin in [
            "https://evil",
            "null",
            "https://ops",
            "ops:80",
            "https://ops:80.evil",
        ] {
            assert!(
                !is_same_origin(&headers(&[("host", "ops:80"), ("origin", origin)])),
                "{origin}"
            );
        }
    }
}
