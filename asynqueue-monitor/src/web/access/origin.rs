//! Whether a change is asked for by our own pages: a page of another site can make a browser send it with the password along.
//!
//! Browsers say where a request comes from, in `Sec-Fetch-Site` and before that in `Origin`; programs say nothing, and nobody
//! lends them a password. The same rule as in Go's `http.CrossOriginProtection`.

use std::net::IpAddr;

use axum::http::{
    HeaderMap,
    header::{HOST, ORIGIN},
};

pub(crate) fn is_own(headers: &HeaderMap) -> bool {
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

/// Whether a host, with or without a port, is a name that leads nowhere else: an address, or `localhost`.
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
    fn numbers_and_localhost_lead_to_this_machine_and_no_other_name_does() {
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
    fn a_change_is_ours_if_the_browser_says_so_or_no_browser_asks() {
        assert!(is_own(&headers(&[])));
        assert!(is_own(&headers(&[("sec-fetch-site", "same-origin")])));
        assert!(is_own(&headers(&[("sec-fetch-site", "none")])));
        assert!(is_own(&headers(&[
            ("host", "ops:80"),
            ("origin", "https://ops:80")
        ])));
        for site in ["cross-site", "same-site", "x"] {
            assert!(!is_own(&headers(&[("sec-fetch-site", site)])), "{site}");
        }
        for origin in [
            "https://evil",
            "null",
            "https://ops",
            "ops:80",
            "https://ops:80.evil",
        ] {
            assert!(
                !is_own(&headers(&[("host", "ops:80"), ("origin", origin)])),
                "{origin}"
            );
        }
    }
}
