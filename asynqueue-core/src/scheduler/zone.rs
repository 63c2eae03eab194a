//! Time zones by name.

use chrono_tz::{TZ_VARIANTS, Tz};

use super::fault::Fault;
use crate::suggest::closest;

/// The zone with an IANA name, such as `Europe/Berlin`.
pub(super) fn parse_zone(name: &str) -> Result<Tz, Fault<'_>> {
    name.parse().map_err(|_| {
        let reason = format!("unknown time zone `{name}`: {}", advice(name));
        Fault::new(name, reason)
    })
}

fn advice(name: &str) -> String {
    let zones = || TZ_VARIANTS.iter().map(|zone| zone.name());
    let city = |zone: &str| zone.rsplit('/').next().map(str::to_lowercase);
    // People who omit the continent usually know the city.
    let same_city = zones().find(|zone| city(zone) == Some(name.to_lowercase()));
    same_city.or_else(|| closest(name, zones())).map_or_else(
        || "expected an IANA name, such as `Europe/Berlin` or `UTC`".to_owned(),
        |zone| format!("did you mean `{zone}`?"),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_unknown_zone_gets_a_suggestion() {
        for (name, meant) in [
            ("Europe/Berln", "did you mean `Europe/Berlin`?"),
            ("europe/berlin", "did you mean `Europe/Berlin`?"),
            ("tokyo", "did you mean `Asia/Tokyo`?"),
            ("Mars/Olympus", "expected an IANA name"),
            ("", "expected an IANA name"),
        ] {
            let fault = parse_zone(name).expect_err(name);
            assert!(fault.reason.contains(meant), "{name}: {}", fault.reason);
        }
    }
}
