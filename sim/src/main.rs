//! Simulates fleets from seeds and checks their promises.

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
usage: sim seconds N [FROM]   run new seeds for N seconds, or seeds from FROM
       sim seeds FROM TO      run the seeds from FROM to TO, excluding TO
       sim kept               run all scenarios in seeds/
       sim trace SEED|FILE    print the trace of a seed or scenario, and its broken promises
       sim show SEED          print the scenario of a seed
       sim shrink SEED|FILE   shrink a scenario while it breaks the same promise, and print it
       sim twice FROM TO      run each seed twice in separate processes, and compare the traces";

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

/// Calls `act` with the scenario of a seed or a file.
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
