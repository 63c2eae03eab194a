//! Simulates fleets from seeds, and looks for broken promises.

mod campaign;
mod entropy;
mod fleet;
mod generate;
mod judge;
mod load;
mod scenario;
mod shrink;

use std::{env, fs, path::Path, process::ExitCode, time::Duration};

use crate::{campaign::Campaign, scenario::Scenario};

const USAGE: &str = "\
usage: sim seconds N [FROM]   runs fresh seeds for N seconds, from seed FROM on
       sim seeds FROM TO      runs the seeds from FROM up to TO
       sim kept               runs all scenarios of seeds/
       sim trace SEED|FILE    prints the trace of a seed or of a scenario, and the promises that it breaks
       sim show SEED          prints the scenario of a seed
       sim shrink SEED|FILE   makes a scenario smaller for as long as it breaks the same promise, and prints it
       sim twice FROM TO      runs each seed twice, in processes of their own, and compares the traces";

fn main() -> ExitCode {
    // Handlers panic on purpose.
    std::panic::set_hook(Box::new(|panic| {
        let text = panic.to_string();
        if !text.contains("simulated") {
            eprintln!("{text}");
        }
    }));
    let words: Vec<_> = env::args().skip(1).collect();
    let words: Vec<_> = words.iter().map(String::as_str).collect();
    let number = |word: &str| word.parse::<u64>();
    match words.as_slice() {
        ["seconds", count] => match number(count) {
            Ok(count) => Campaign::fresh().run_for(Duration::from_secs(count)),
            Err(_) => usage(),
        },
        ["seconds", count, from] => match (number(count), number(from)) {
            (Ok(count), Ok(from)) => Campaign::from(from).run_for(Duration::from_secs(count)),
            _ => usage(),
        },
        ["seeds", from, to] => match (number(from), number(to)) {
            (Ok(from), Ok(to)) => Campaign::from(from).run_up_to(to),
            _ => usage(),
        },
        ["kept"] => campaign::run_kept(),
        ["trace", of] => with_scenario(of, |scenario| {
            let report = fleet::run(&scenario);
            print!("{}", report.trace());
            for broken in &report.broken {
                println!("broken {broken}");
            }
            ExitCode::from(u8::from(!report.broken.is_empty()))
        }),
        ["show", of] => with_scenario(of, |scenario| print(&scenario)),
        ["shrink", of] => with_scenario(of, |scenario| print(&shrink::shrink(&scenario))),
        ["twice", from, to] => match (number(from), number(to)) {
            (Ok(from), Ok(to)) => campaign::run_twice(from..to),
            _ => usage(),
        },
        _ => usage(),
    }
}

fn usage() -> ExitCode {
    eprintln!("{USAGE}");
    ExitCode::from(2)
}

fn print(scenario: &Scenario) -> ExitCode {
    match serde_json::to_string_pretty(scenario) {
        Ok(text) => println!("{text}"),
        Err(error) => {
            eprintln!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}

/// Does something with the scenario of a seed or a file.
fn with_scenario(of: &str, act: impl FnOnce(Scenario) -> ExitCode) -> ExitCode {
    match of.parse() {
        Ok(seed) => act(generate::scenario(seed)),
        Err(_) => match read(Path::new(of)) {
            Ok(scenario) => act(scenario),
            Err(error) => {
                eprintln!("{of}: {error}");
                ExitCode::FAILURE
            }
        },
    }
}

/// Reads a scenario.
fn read(path: &Path) -> Result<Scenario, Box<dyn std::error::Error>> {
    Ok(serde_json::from_str(&fs::read_to_string(path)?)?)
}
