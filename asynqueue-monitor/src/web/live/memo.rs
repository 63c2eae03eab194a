//! What many ask for at once is read once.

use std::{
    collections::HashMap,
    hash::Hash,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

/// How long an answer is kept that nobody asks for.
const KEPT: Duration = Duration::from_secs(10);

/// The last answers, by what was asked.
pub(in crate::web) struct Memo<K, V>(Mutex<HashMap<K, Arc<Answer<V>>>>);

/// When it was read, and what. Whoever comes while it is read waits for it here.
type Answer<V> = tokio::sync::Mutex<Option<(Instant, Arc<V>)>>;

impl<K, V> Default for Memo<K, V> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<K: Eq + Hash, V> Memo<K, V> {
    /// An answer that was read at `not_before` or later; `read` makes one if there is none.
    pub(super) async fn get<E>(
        &self,
        key: K,
        not_before: Instant,
        read: impl Future<Output = Result<V, E>>,
    ) -> Result<Arc<V>, E> {
        let answer = self.entry(key);
        let mut answer = answer.lock().await;
        if let Some((at, value)) = &*answer
            && *at >= not_before
        {
            return Ok(Arc::clone(value));
        }
        let at = Instant::now();
        let value = Arc::new(read.await?);
        *answer = Some((at, Arc::clone(&value)));
        Ok(value)
    }

    fn entry(&self, key: K) -> Arc<Answer<V>> {
        let mut known = self.0.lock();
        known.retain(|_, answer| match answer.try_lock() {
            Ok(answer) => answer.as_ref().is_some_and(|(at, _)| at.elapsed() < KEPT),
            // It is being read.
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
    async fn those_who_ask_at_once_share_an_answer_and_none_is_older_than_asked_for() {
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
    async fn what_cannot_be_read_is_read_by_the_next_who_asks() {
        let (memo, start) = (Memo::default(), Instant::now());
        let failed = memo.get("a", start, async { Err::<u8, _>("gone") }).await;
        assert_eq!(failed, Err("gone"));
        let read = memo.get("a", start, async { Ok::<_, &str>(7) }).await;
        assert_eq!(read, Ok(7.into()));
    }
}
