//! The time that the body of a request may take. A body that is sent slowly would hold a connection for as long as its
//! sender likes.

use std::time::Duration;

use axum::{
    BoxError,
    body::{Body, HttpBody},
    extract::Request,
};
use futures_util::{StreamExt, stream};
use tokio::time::{Instant, timeout_at};

/// How long receiving a body may take.
const LIMIT: Duration = Duration::from_secs(30);

/// Fails the body of a request that is not received in time.
pub(super) async fn within_limit(request: Request) -> Request {
    if request.body().is_end_stream() {
        return request;
    }
    request.map(|body| within(body, LIMIT))
}

fn within(body: Body, limit: Duration) -> Body {
    let deadline = Instant::now() + limit;
    let parts = stream::unfold(Some(body.into_data_stream()), move |parts| async move {
        let mut parts = parts?;
        // Ending the stream early would pass a part of a form as all of it.
        let part = match timeout_at(deadline, parts.next()).await {
            Ok(part) => part?.map_err(BoxError::from),
            Err(_) => Err(format!("it was not received within {limit:?}").into()),
        };
        let left = part.is_ok().then_some(parts);
        Some((part, left))
    });
    Body::from_stream(parts)
}

#[cfg(test)]
mod tests {
    use axum::body::to_bytes;

    use super::*;

    #[tokio::test]
    async fn a_body_is_read_completely() {
        let parts = stream::iter(["a=1", "&b=2"].map(Ok::<_, BoxError>));
        let body = within(Body::from_stream(parts), LIMIT);
        let read = to_bytes(body, 100).await.expect("read");
        assert_eq!(&*read, b"a=1&b=2");
    }

    /// Neither one that stalls nor one that sends a byte from time to time.
    #[tokio::test]
    async fn a_slow_body_fails_and_is_not_cut() {
        for pause in [Duration::from_secs(3_600), Duration::from_millis(1)] {
            let drips = stream::unfold((), move |()| async move {
                tokio::time::sleep(pause).await;
                Some((Ok::<_, BoxError>("a"), ()))
            });
            let body = within(Body::from_stream(drips), Duration::from_millis(50));
            let read = to_bytes(body, usize::MAX);
            let read = tokio::time::timeout(Duration::from_secs(30), read).await;
            assert!(read.expect("it ends").is_err(), "{pause:?}");
        }
    }
}
