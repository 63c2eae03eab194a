//! The settings of a run, and its random numbers.

use std::{fmt, path::PathBuf, str::FromStr, time::Duration};

/// How long a task stays with a worker that does not extend its lease.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

/// How long a client waits for a response before it sends the request again.
pub(crate) const RESPONSE_TIMEOUT: Duration = Duration::from_millis(500);

/// One run.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    /// How long tasks are enqueued and faults injected.
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    pub(crate) is_cluster: bool,
    pub(crate) faults: Vec<Fault>,
    /// The directory of the journals.
    pub(crate) dir: PathBuf,
}

macro_rules! faults {
    ($($(#[$doc:meta])* $fault:ident $name:literal)*) => {
        /// The kinds of faults.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
        pub(crate) enum Fault { $($(#[$doc])* $fault),* }

        impl Fault {
            pub(crate) const ALL: &[Self] = &[$(Self::$fault),*];

            pub(crate) fn name(self) -> &'static str {
                match self { $(Self::$fault => $name),* }
            }
        }
    };
}

faults! {
    /// Responses are delayed.
    Delay "delay"
    /// Connections end in the middle of a response.
    Cut "cut"
    /// Responses never arrive.
    Swallow "swallow"
    /// Requests are held, then delivered.
    Hold "hold"
    /// Nothing is delivered.
    Blackhole "blackhole"
    /// Requests arrive after they were sent again.
    Late "late"
    /// SIGKILL of a producer, a worker or the operator.
    Kill "kill"
    /// SIGSTOP and SIGCONT of one.
    Stop "stop"
    /// A process ends in order, and another takes its place.
    Deploy "deploy"
    /// Redis ends, by SIGKILL or in order, and restarts from its append-only file.
    Restart "restart"
    /// SIGSTOP and SIGCONT of Redis.
    Pause "pause"
    /// CLIENT KILL of all clients, or of all subscribers.
    Clients "clients"
    /// SCRIPT FLUSH.
    Scripts "scripts"
    /// A replica takes over from its master, which hands over or is killed.
    Failover "failover"
}

impl Fault {
    /// Whether this kind of Redis can have the fault.
    fn fits(self, is_cluster: bool) -> bool {
        match self {
            // A Cluster declares a paused node dead, and an unplanned failover loses what was not replicated.
            Self::Restart | Self::Pause => !is_cluster,
            Self::Failover => is_cluster,
            _ => true,
        }
    }

    /// Whether it can prevent a worker from extending its leases.
    pub(crate) fn cuts_off(self) -> bool {
        !matches!(
            self,
            Self::Delay | Self::Cut | Self::Late | Self::Deploy | Self::Clients | Self::Scripts
        )
    }
}

impl FromStr for Fault {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = Self::ALL.iter().find(|fault| fault.name() == name);
        known.copied().ok_or_else(|| {
            let names: Vec<_> = Self::ALL.iter().map(|fault| fault.name()).collect();
            format!(
                "unknown fault `{name}`: expected one of {}",
                names.join(", ")
            )
        })
    }
}

fn variable<T: FromStr<Err: fmt::Display>>(name: &str, default: T) -> T {
    match std::env::var(name) {
        Err(_) => default,
        Ok(text) => text
            .parse()
            .unwrap_or_else(|error| panic!("{name}=`{text}`: {error}")),
    }
}

impl Settings {
    /// Reads the environment.
    pub(crate) fn read() -> Self {
        let is_cluster = match variable("ASYNQUEUE_CHAOS", "single".to_owned()).as_str() {
            "single" => false,
            "cluster" => true,
            other => panic!("ASYNQUEUE_CHAOS is `{other}`: expected `single` or `cluster`"),
        };
        let seed = variable("ASYNQUEUE_CHAOS_SEED", rand::random::<u32>().into());
        let dir = PathBuf::from(env!("CARGO_TARGET_TMPDIR"));
        let dir = dir.join(format!("chaos-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for the journals");
        Self {
            time: Duration::from_secs(variable("ASYNQUEUE_CHAOS_SECS", 45)),
            seed,
            is_cluster,
            faults: chosen(
                &variable("ASYNQUEUE_CHAOS_FAULTS", String::new()),
                is_cluster,
            ),
            dir,
        }
    }

    /// The command that repeats the same plan of faults. The interleaving of processes and threads differs each time.
    pub(crate) fn command(&self) -> String {
        let faults: Vec<_> = self.faults.iter().map(|fault| fault.name()).collect();
        format!(
            "ASYNQUEUE_CHAOS={} ASYNQUEUE_CHAOS_SECS={} ASYNQUEUE_CHAOS_SEED={} ASYNQUEUE_CHAOS_FAULTS={} \
             cargo test -p asynqueue-redis --test chaos -- --nocapture",
            if self.is_cluster { "cluster" } else { "single" },
            self.time.as_secs(),
            self.seed,
            if faults.is_empty() {
                "none".to_owned()
            } else {
                faults.join(",")
            },
        )
    }
}

/// The faults of a list: all if it is empty, none for `none`. Names with a `-` before them are excluded.
fn chosen(list: &str, is_cluster: bool) -> Vec<Fault> {
    if list == "none" {
        return Vec::new();
    }
    let read = |name: &str| -> Fault {
        let fault: Fault = name.parse().unwrap_or_else(|error| panic!("{error}"));
        assert!(
            fault.fits(is_cluster),
            "fault `{name}` does not exist with this kind of Redis"
        );
        fault
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for name in list.split(',').filter(|name| !name.is_empty()) {
        match name.strip_prefix('-') {
            Some(name) => without.push(read(name)),
            None => with.push(read(name)),
        }
    }
    if with.is_empty() {
        with = Fault::ALL.to_vec();
    }
    with.retain(|fault| fault.fits(is_cluster) && !without.contains(fault));
    with
}

/// Pseudo-random numbers from a seed (SplitMix64).
#[derive(Clone, Debug)]
pub(crate) struct Dice(u64);

impl Dice {
    /// A generator for this seed and a name that distinguishes it from others.
    pub(crate) fn new(seed: u64, name: &str) -> Self {
        let mix = |state: u64, byte: u8| (state ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        Self(name.bytes().fold(seed ^ 0xcbf2_9ce4_8422_2325, mix))
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`.
    pub(crate) fn below(&mut self, end: u64) -> u64 {
        self.next() % end.max(1)
    }

    /// A duration between these milliseconds.
    pub(crate) fn millis(&mut self, from: u64, to: u64) -> Duration {
        Duration::from_millis(from + self.below(to - from + 1))
    }

    pub(crate) fn pick<'a, T>(&mut self, of: &'a [T]) -> Option<&'a T> {
        of.get(self.below(of.len() as u64) as usize)
    }
}
