//! Counting primes, slowly enough to watch.

use std::time::Duration;

use asynqueue::prelude::*;

#[derive(Serialize, Deserialize, Task)]
#[task(event = "primes:count", output = Count, timeout = "1m", max_retry = 0)]
pub(crate) struct CountPrimes {
    pub(crate) below: u64,
}

#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Count {
    pub(crate) primes: u64,
    pub(crate) largest: Option<u64>,
}

/// After this many numbers, the handler reports its progress and checks for cancellation.
const STEP: u64 = 10_000;

pub(crate) async fn count_primes(
    task: Payload<CountPrimes>,
    ctx: Context,
) -> Result<Count, TaskError> {
    let below = task.below;
    let mut count = Count {
        primes: 0,
        largest: None,
    };
    for first in (2..below).step_by(STEP as usize) {
        if ctx.is_cancelled() {
            return Err(TaskError::skip_retry("cancelled"));
        }
        for n in (first..below.min(first + STEP)).filter(|n| is_prime(*n)) {
            count.primes += 1;
            count.largest = Some(n);
        }
        ctx.progress(
            below.min(first + STEP),
            below,
            format!("{} primes", count.primes),
        );
        // Lets other tasks use the thread.
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(count)
}

fn is_prime(n: u64) -> bool {
    (2..)
        .take_while(|d| d * d <= n)
        .all(|d| !n.is_multiple_of(d))
}
