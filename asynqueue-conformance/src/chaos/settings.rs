//! The settings of a run, from the environment.

use std::{
    fmt,
    path::{Path, PathBuf},
    str::FromStr,
    time::Duration,
};

use super::{journal::now, stage::Fault};

/// How long a task stays with a worker that does not extend its lease.
pub(crate) const LEASE: Duration = Duration::from_secs(3);

const VARIANT: &str = "ASYNQUEUE_CHAOS";
const SECS: &str = "ASYNQUEUE_CHAOS_SECS";
const SEED: &str = "ASYNQUEUE_CHAOS_SEED";
const FAULTS: &str = "ASYNQUEUE_CHAOS_FAULTS";

/// One run.
///
/// | variable | default | meaning |
/// |---|---|---|
/// | `ASYNQUEUE_CHAOS` | the first of the stage | a variant of the store |
/// | `ASYNQUEUE_CHAOS_SECS` | 45 | how long tasks are enqueued and faults injected |
/// | `ASYNQUEUE_CHAOS_SEED` | random | the seed of faults and tasks |
/// | `ASYNQUEUE_CHAOS_FAULTS` | all | `late,cut` for these only, `-late` for all others, `none` |
#[derive(Clone, Debug)]
pub struct Settings {
    package: &'static str,
    variant: &'static str,
    /// How long tasks are enqueued and faults injected.
    pub(crate) time: Duration,
    pub(crate) seed: u64,
    /// What `ASYNQUEUE_CHAOS_FAULTS` says.
    chosen: String,
    /// The directory of the journals.
    pub(crate) dir: PathBuf,
}

impl Settings {
    /// Reads the environment. `package` contains the test `chaos`, `tmp` is a directory for journals, and `variants`
    /// are the kinds of this store, of which the first is the default.
    ///
    /// # Panics
    ///
    /// If a variable has an invalid value.
    pub fn read(package: &'static str, tmp: &str, variants: &[&'static str]) -> Self {
        let first = *variants.first().expect("a variant");
        let variant = variable(VARIANT, first.to_owned());
        let known = variants.iter().find(|known| **known == variant);
        let variant = known.unwrap_or_else(|| {
            panic!(
                "{VARIANT} is `{variant}`: expected one of {}",
                variants.join(", ")
            )
        });
        let dir = PathBuf::from(tmp).join(format!("chaos-{}", std::process::id()));
        std::fs::create_dir_all(&dir).expect("a directory for the journals");
        Self {
            package,
            variant,
            time: Duration::from_secs(variable(SECS, 45)),
            seed: variable(SEED, now() % (1 << 32)),
            chosen: variable(FAULTS, String::new()),
            dir,
        }
    }

    /// The kind of store: one of the variants that were passed.
    pub fn variant(&self) -> &'static str {
        self.variant
    }

    /// The directory of the journals. It is removed once the run has passed.
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// The chosen faults of all that this stage has.
    pub(crate) fn faults(&self, of_stage: &[Fault]) -> Vec<Fault> {
        let all = [of_stage, &Fault::OF_PROCESSES].concat();
        chosen(&self.chosen, &all).unwrap_or_else(|error| panic!("{FAULTS}: {error}"))
    }

    /// The command that repeats the same plan of faults. The interleaving of processes and threads differs each time.
    pub(crate) fn command(&self, faults: &[Fault]) -> String {
        let names: Vec<_> = faults.iter().map(|fault| fault.name).collect();
        format!(
            "{VARIANT}={} {SECS}={} {SEED}={} {FAULTS}={} cargo test -p {} --test chaos -- --nocapture",
            self.variant,
            self.time.as_secs(),
            self.seed,
            if names.is_empty() {
                "none".to_owned()
            } else {
                names.join(",")
            },
            self.package,
        )
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

/// The faults of a list: all if it is empty, none for `none`. Names with a `-` before them are excluded.
fn chosen(list: &str, all: &[Fault]) -> Result<Vec<Fault>, String> {
    if list == "none" {
        return Ok(Vec::new());
    }
    let read = |name: &str| {
        let known = all.iter().find(|fault| fault.name == name);
        known.copied().ok_or_else(|| {
            let names: Vec<_> = all.iter().map(|fault| fault.name).collect();
            format!(
                "unknown fault `{name}`: expected one of {}",
                names.join(", ")
            )
        })
    };
    let (mut with, mut without) = (Vec::new(), Vec::new());
    for name in list.split(',').filter(|name| !name.is_empty()) {
        match name.strip_prefix('-') {
            Some(name) => without.push(read(name)?),
            None => with.push(read(name)?),
        }
    }
    if with.is_empty() {
        with = all.to_vec();
    }
    with.retain(|fault| !without.contains(fault));
    Ok(with)
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [Fault; 3] = [Fault::KILL, Fault::STOP, Fault::DEPLOY];

    fn names(list: &str) -> Result<Vec<&'static str>, String> {
        Ok(chosen(list, &ALL)?.iter().map(|fault| fault.name).collect())
    }

    #[test]
    fn a_list_of_faults_names_those_to_inject_or_to_leave_out() {
        assert_eq!(names("").expect("a list"), ["kill", "stop", "deploy"]);
        assert_eq!(names("stop,kill").expect("a list"), ["stop", "kill"]);
        assert_eq!(names("-stop").expect("a list"), ["kill", "deploy"]);
        assert_eq!(names("none").expect("a list"), Vec::<&str>::new());
    }

    #[test]
    fn an_unknown_fault_is_refused_with_the_known_ones() {
        let refused = "unknown fault `cut`: expected one of kill, stop, deploy";
        assert_eq!(names("kill,-cut").expect_err("an unknown name"), refused);
    }
}
