//! A program with `redis` and without `tls`: `scripts/test` builds it.

#![cfg(all(feature = "redis", not(feature = "tls")))]

#[tokio::test]
async fn a_url_with_tls_is_refused_with_the_feature_to_enable() {
    for scheme in ["rediss", "rediss+sentinel", "rediss+cluster"] {
        let url = format!("{scheme}://ada:secret@redis.example?master=main");
        let error = asynqueue::connect(&url).await.expect_err("no TLS");
        assert_eq!(
            error.to_string(),
            format!(
                "`{scheme}://` requires TLS, which this program is built without: enable the feature `tls` of asynqueue"
            )
        );
    }
}
