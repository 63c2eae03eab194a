//! Slows down who guesses passwords.

use std::{
    collections::HashMap,
    net::{IpAddr, Ipv6Addr},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// So many wrong passwords of one address in a [`WINDOW`] are borne.
const MAX_FAILURES: u32 = 10;

const WINDOW: Duration = Duration::from_secs(60);

/// The most addresses to remember; beyond, all unknown ones count as one.
const MAX_ADDRESSES: usize = 10_000;

/// The tries of late, by address. Where the server tells no addresses, all count as one.
#[derive(Debug, Default)]
pub(super) struct Throttle(Mutex<HashMap<Option<IpAddr>, Tries>>);

#[derive(Debug)]
struct Tries {
    since: Instant,
    count: u32,
}

/// A try to log in, which counts as a failure unless it is [forgiven](Self::forgive): so that no more go on at once than may
/// fail.
#[must_use]
pub(super) struct Try<'a> {
    throttle: &'a Throttle,
    address: Option<IpAddr>,
}

impl Throttle {
    /// Lets an address try; else tells how long it has to wait.
    pub(super) fn admit(&self, address: Option<IpAddr>) -> Result<Try<'_>, Duration> {
        let mut address = address.map(network);
        let mut known = self.0.lock();
        if known.len() >= MAX_ADDRESSES && !known.contains_key(&address) {
            known.retain(|_, tries| tries.since.elapsed() < WINDOW);
            if known.len() >= MAX_ADDRESSES {
                address = None;
            }
        }
        let new = || Tries {
            since: Instant::now(),
            count: 0,
        };
        let tries = known.entry(address).or_insert_with(new);
        let age = tries.since.elapsed();
        if age >= WINDOW {
            *tries = new();
        } else if tries.count >= MAX_FAILURES {
            return Err(WINDOW - age);
        }
        tries.count += 1;
        Ok(Try {
            throttle: self,
            address,
        })
    }
}

impl Try<'_> {
    /// The password was right.
    pub(super) fn forgive(self) {
        if let Some(tries) = self.throttle.0.lock().get_mut(&self.address) {
            tries.count = tries.count.saturating_sub(1);
        }
    }
}

/// What one household has: a whole network of IPv6 is easy to come by.
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
    fn an_address_that_guesses_has_to_wait_and_others_have_not() {
        let throttle = Throttle::default();
        let (guesser, other) = (Some([10, 0, 0, 1].into()), Some([10, 0, 0, 2].into()));
        for _ in 0..MAX_FAILURES {
            assert!(throttle.admit(guesser).is_ok());
        }
        let wait = throttle.admit(guesser).map(drop);
        assert!(wait.is_err_and(|wait| wait <= WINDOW));
        assert!(throttle.admit(other).is_ok());
    }

    #[test]
    fn who_knows_the_password_never_has_to_wait() {
        let throttle = Throttle::default();
        for _ in 0..2 * MAX_FAILURES {
            throttle.admit(None).ok().expect("let in").forgive();
        }
    }

    #[test]
    fn a_network_of_ipv6_counts_as_one_address() {
        let throttle = Throttle::default();
        let address = |text: &str| Some(text.parse().expect("an address"));
        for n in 0..MAX_FAILURES {
            assert!(throttle.admit(address(&format!("2001:db8::{n}"))).is_ok());
        }
        assert!(throttle.admit(address("2001:db8::ffff")).is_err());
        assert!(throttle.admit(address("2001:db8:0:1::1")).is_ok());
        assert_eq!(
            network([10, 0, 0, 1].into()),
            network("::ffff:10.0.0.1".parse().expect("an address"))
        );
    }

    #[test]
    fn any_number_of_addresses_takes_bounded_memory() {
        let throttle = Throttle::default();
        for n in 0..2 * MAX_ADDRESSES as u32 {
            let _ = throttle.admit(Some(IpAddr::from(n.to_be_bytes())));
        }
        assert!(throttle.0.lock().len() <= MAX_ADDRESSES + 1);
        let unknown = throttle.admit(Some([200, 0, 0, 1].into()));
        assert!(unknown.is_err(), "all unknown count as one");
    }
}
