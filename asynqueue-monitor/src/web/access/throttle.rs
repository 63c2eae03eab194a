//! Slows down password guessing.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// The failed logins that one address may make in a [`WINDOW`].
const MAX_FAILURES: u32 = 10;

const WINDOW: Duration = Duration::from_secs(60);

/// The maximum number of tracked addresses. Beyond this number, all other addresses count as one.
const MAX_ADDRESSES: usize = 10_000;

/// The recent failed logins, by address. Without addresses, all requests count as one.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<Option<IpAddr>, Failures>>);

#[derive(Debug)]
struct Failures {
    since: Instant,
    count: u32,
}

impl Throttle {
    /// Whether an address may try to log in. The error is the time it has to wait.
    pub(super) fn admit(&self, address: Option<IpAddr>) -> Result<(), Duration> {
        let failures = self.0.lock();
        let known = failures.get(&address.map(network));
        let known = known.or_else(|| {
            failures
                .get(&None)
                .filter(|_| failures.len() > MAX_ADDRESSES)
        });
        match known.map(|known| (known.count, known.since.elapsed())) {
            Some((count, age)) if count >= MAX_FAILURES && age < WINDOW => Err(WINDOW - age),
            _ => Ok(()),
        }
    }

    /// Counts a failed login.
    pub(super) fn record_failure(&self, address: Option<IpAddr>) {
        let mut address = address.map(network);
        let mut failures = self.0.lock();
        if failures.len() >= MAX_ADDRESSES && !failures.contains_key(&address) {
            failures.retain(|_, known| known.since.elapsed() < WINDOW);
            if failures.len() >= MAX_ADDRESSES {
                address = None;
            }
        }
        let new = || Failures {
            since: Instant::now(),
            count: 0,
        };
        let known = failures.entry(address).or_insert_with(new);
        if known.since.elapsed() >= WINDOW {
            *known = new();
        }
        known.count += 1;
    }
}

/// The /64 network of an IPv6 address, because one client usually has all of its addresses.
fn network(address: IpAddr) -> IpAddr {
    match address {
        IpAddr::V6(address) if address.to_ipv4_mapped().is_none() => {
            Ipv6Addr::from_bits(address.to_bits() >> 64 << 64).into()
        }
        other => other.to_canonical(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_that_guesses_has_to_wait_and_others_do_not() {
        let throttle = Throttle::default();
        let (guesser, other) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        for _ in 0..MAX_FAILURES {
            assert_eq!(throttle.admit(guesser), Ok(()));
            throttle.record_failure(guesser);
        }
        assert!(throttle.admit(guesser).is_err_and(|wait| wait <= WINDOW));
        assert_eq!(throttle.admit(other), Ok(()));
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let throttle = Throttle::default();
        let address = |text: &str| Some(text.parse().expect("an address"));
        for n in 0..MAX_FAILURES {
            throttle.record_failure(address(&format!("2001:db8::{n}")));
        }
        assert!(throttle.admit(address("2001:db8::ffff")).is_err());
        assert!(throttle.admit(address("2001:db8:0:1::1")).is_ok());
        assert_eq!(
            network([10, 0, 0, 1].into()),
            network("::ffff:10.0.0.1".parse().expect("an address"))
        );
    }

    #[test]
    fn memory_is_bounded_for_any_number_of_addresses() {
        let throttle = Throttle::default();
        for n in 0..2 * MAX_ADDRESSES as u32 {
            throttle.record_failure(Some(IpAddr::from(n.to_be_bytes())));
        }
        assert!(throttle.0.lock().len() <= MAX_ADDRESSES + 1);
        let unknown = throttle.admit(Some([200, 0, 0, 1].into()));
        assert!(unknown.is_err(), "all untracked addresses count as one");
    }
}
