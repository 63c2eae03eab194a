//! Whether a change is asked for by our own pages: a page of another site can make a browser send it with the password along.
//!
//! Browsers say where a request comes from, in `Sec-Fetch-Site` and before that in `Origin`; programs say nothing, and nobody
//! lends them a password. The same rule as in Go's `http.CrossOriginProtection`.

use axum::http::{
    HeaderMap,
    header::{HOST, ORIGIN},
};

pub(super) fn is_own(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return matches!(site.as_bytes(), b"same-origin" | b"none");
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

#[cfg(test)]
mod tests {
    use super::*;

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
