//! A double charge, found by a test and fixed: `cargo run --bin double_charge`.
//!
//! In a program of your own, what `main` does here is in a `#[tokio::test]`, and asynqueue's feature `testing` is in its
//! `dev-dependencies`.

mod charge;
mod shop;

use asynqueue::{
    prelude::*,
    testing::{CrashError, crash_everywhere},
};

use self::{
    charge::{ChargeOrder, charge_once, charge_twice},
    shop::Shop,
};

const ORDER: ChargeOrder = ChargeOrder {
    order: 7,
    cents: 1_999,
};

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), BoxError> {
    let test = crash_everywhere(charge_twice, ORDER).with_state(Shop::default);
    match test.check(Shop::charges).await {
        Err(CrashError::Found(found)) => println!("{found}\n"),
        Err(error) => return Err(error.into()),
        Ok(_) => return Err("the double charge was not found".into()),
    }

    let test = crash_everywhere(charge_once, ORDER).with_state(Shop::default);
    let summary = test.check(Shop::charges).await?;
    println!(
        "with a key it is charged once: {} crash points, {} runs",
        summary.crash_points, summary.runs
    );
    Ok(())
}
