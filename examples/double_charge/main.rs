//! A double charge, found by a test and fixed: `cargo run --bin double_charge`.
//!
//! In your own program, put the body of `main` into a `#[tokio::test]`, and enable asynqueue's feature `testing` in
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
        "with a key, the order is charged once: {} crash points, {} runs",
        summary.crash_points, summary.runs
    );
    Ok(())
}
