//! Codecs and headers: a worker reads what a producer writes.

use std::{
    error::Error,
    net::IpAddr,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
};

use asynqueue_core::{
    codec::{Codec, CodecError, Json, MessagePack},
    process::{Context, Payload, TaskError},
    producer::EnqueueError,
    server::Server,
};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::harness::{Job, broker, counts, failure_of, info, job, output_of};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(event = "json", codec = Json, output = Vec<String>, crate = asynqueue_core)]
struct InJson {
    name: String,
}

/// JSON backwards: unlike any built-in codec.
struct Backwards;

impl Codec for Backwards {
    const NAME: &'static str = "backwards";

    fn encode<T: Serialize + ?Sized>(value: &T) -> Result<Vec<u8>, CodecError> {
        let mut bytes = Json::encode(value)?;
        bytes.reverse();
        Ok(bytes)
    }

    fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CodecError> {
        let mut bytes = bytes.to_vec();
        bytes.reverse();
        Json::decode(&bytes)
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(event = "backwards", codec = Backwards, output = String, crate = asynqueue_core)]
struct InBackwards {
    name: String,
}

#[tokio::test]
async fn a_payload_in_json_and_its_output_survive_the_round_trip() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(|task: Payload<InJson>, _: Context| async move {
            Ok::<_, TaskError>(vec![task.into_inner().name])
        })
        .start()
        .await
        .unwrap();
    let task = producer
        .enqueue(InJson { name: "Ada".into() })
        .await
        .unwrap();
    assert_eq!(output_of(&task).await, ["Ada"]);
    let info = info(&task).await;
    assert_eq!(info.envelope.codec.as_str(), "json");
    assert_eq!(info.envelope.payload, r#"{"name":"Ada"}"#);
    assert_eq!(info.result.unwrap(), r#"["Ada"]"#);
}

#[tokio::test]
async fn a_custom_codec_survives_the_round_trip() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(|task: Payload<InBackwards>, _: Context| async move {
            Ok::<_, TaskError>(task.into_inner().name)
        })
        .start()
        .await
        .unwrap();
    let task = producer
        .enqueue(InBackwards { name: "Ada".into() })
        .await
        .unwrap();
    assert_eq!(output_of(&task).await, "Ada");
    let info = info(&task).await;
    assert_eq!(info.envelope.codec.as_str(), "backwards");
    assert_eq!(info.envelope.payload, r#"}"adA":"eman"{"#);
}

#[tokio::test]
async fn headers_arrive_at_the_handler() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(|_: Payload<Job>, ctx: Context| async move {
            let headers: Vec<_> = ctx.headers().iter().collect();
            assert_eq!(headers, [("tenant", "acme"), ("trace", "größer")]);
            Ok::<_, TaskError>(())
        })
        .start()
        .await
        .unwrap();
    let task = producer
        .enqueue(job(1))
        .header("trace", "größer")
        .header("tenant", "acme")
        .max_retry(0);
    output_of(&task.await.unwrap()).await;
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(event = "account", max_retry = 0, output = Account, crate = asynqueue_core)]
#[serde(tag = "type")]
enum Account {
    SignedIn { user: u64, from: IpAddr },
    SignedOut { user: u64 },
}

#[tokio::test]
async fn an_address_in_a_tagged_payload_and_its_output_survive_the_round_trip() {
    let (broker, producer) = broker();
    let _server = Server::builder(broker)
        .process(|task: Payload<Account>, _: Context| async move {
            Ok::<_, TaskError>(task.into_inner())
        })
        .process(|_: Payload<Job>, ctx: Context| async move {
            Ok::<_, TaskError>(ctx.set_result(&signed_in())?)
        })
        .start()
        .await
        .unwrap();
    for account in [signed_in(), Account::SignedOut { user: 2 }] {
        let task = producer.enqueue(account.clone()).await.unwrap();
        assert_eq!(output_of(&task).await, account);
    }
    let task = producer.enqueue(job(1)).await.unwrap();
    output_of(&task).await;
    let set = info(&task).await.result.expect("kept");
    assert_eq!(MessagePack::decode::<Account>(&set).unwrap(), signed_in());
}

fn signed_in() -> Account {
    Account::SignedIn {
        user: 1,
        from: IpAddr::from([192, 0, 2, 7]),
    }
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(event = "measured", codec = Json, output = Vec<f64>, crate = asynqueue_core)]
struct Measured {
    value: Option<f64>,
}

#[tokio::test]
async fn an_undecodable_payload_is_rejected_with_the_reason() {
    let (broker, producer) = broker();
    let value = Some(f64::NAN);
    let error = producer.enqueue(Measured { value }).await.expect_err("NaN");
    assert!(
        matches!(
            error,
            EnqueueError::Encode {
                event: "measured",
                ..
            }
        ),
        "{error}"
    );
    let reason = error.source().expect("a reason").to_string();
    assert!(
        reason.starts_with("`value`: JSON cannot represent NaN"),
        "{reason}"
    );
    assert_eq!(counts(&broker).await, []);
}

#[tokio::test]
async fn an_undecodable_output_is_archived_with_the_reason_and_not_run_again() {
    let (broker, producer) = broker();
    let runs = Arc::new(AtomicUsize::new(0));
    let count = Arc::clone(&runs);
    let _server = Server::builder(broker)
        .process(move |_: Payload<Measured>, _: Context| {
            count.fetch_add(1, SeqCst);
            async { Ok::<_, TaskError>(vec![1.0, f64::INFINITY]) }
        })
        .start()
        .await
        .unwrap();
    let task = producer.enqueue(Measured { value: None }).await.unwrap();
    let failure = failure_of(&task).await;
    let expected = "could not encode the output: JSON cannot represent inf";
    assert!(failure.message.starts_with(expected), "{}", failure.message);
    assert_eq!(runs.load(SeqCst), 1);
}
