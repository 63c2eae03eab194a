//! A cache that reads each value once for concurrent requests.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How long an unused value is kept.
const KEPT: Duration = Duration::from_secs(10);

/// The last values by key.
pub(in crate::web) struct Memo<K, V>(Mutex<HashMap<K, Arc<Slot<V>>>>);

/// A value and when it was read. Concurrent requests wait on the lock while one of them reads.
type Slot<V> = tokio::sync::Mutex<Option<(Instant, Arc<V>)>>;

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V> Memo<K, V> {
    /// A value that was read at `not_before` or later. Calls `read` if there is none.
    pub(super) async fn get<E>(
        &self,
        key: K,
        not_before: Instant,
        read: impl Future<Output = Result<V, E>>,
    ) -> Result<Arc<V>, E> {
        let slot = self.slot(key);
        let mut slot = slot.lock().await;
        if let Some((at, value)) = &*slot
            && *at >= not_before
        {
            return Ok(Arc::clone(value));
        }
        let at = Instant::now();
        let value = Arc::new(read.await?);
        *slot = Some((at, Arc::clone(&value)));
        Ok(value)
    }

    fn slot(&self, key: K) -> Arc<Slot<V>> {
        let mut known = self.0.lock();
        known.retain(|_, slot| match slot.try_lock() {
            Ok(slot) => slot.as_ref().is_some_and(|(at, _)| at.elapsed() < KEPT),
            // A read is in progress.
            Err(_) => true,
        });
        Arc::clone(known.entry(key).or_default())
    }
}

#[cfg(test)]
mod tests {
    use std::{
        convert::Infallible,
        sync::atomic::{AtomicUsize, Ordering},
    };

    use super::*;

    #[tokio::test]
    async fn concurrent_requests_share_a_read_and_none_gets_an_older_value() {
        let (memo, reads) = (Memo::default(), AtomicUsize::new(0));
        let read = |key, not_before| {
            let read = async {
                tokio::task::yield_now().await;
                Ok::<_, Infallible>(reads.fetch_add(1, Ordering::Relaxed))
            };
            memo.get(key, not_before, read)
        };
        let start = Instant::now();
        let (first, second) = tokio::join!(read("a", start), read("a", start));
        assert_eq!((first, second), (Ok(0.into()), Ok(0.into())));
        assert_eq!(read("b", start).await, Ok(1.into()));
        assert_eq!(read("a", start).await, Ok(0.into()));
        assert_eq!(read("a", Instant::now()).await, Ok(2.into()));
    }

    #[tokio::test]
    async fn the_next_request_retries_a_failed_read() {
        let (memo, start) = (Memo::default(), Instant::now());
        let failed = memo.get("a", start, async { Err::<u8, _>("gone") }).await;
        assert_eq!(failed, Err("gone"));
        let read = memo.get("a", start, async { Ok::<_, &str>(7) }).await;
        assert_eq!(read, Ok(7.into()));
    }
}
