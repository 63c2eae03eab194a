//! Codecs and headers: what a producer writes, a worker reads.

use asynqueue_core::{Codec, CodecError, Context, Json, Payload, Server, TaskError};
use asynqueue_macros::Task;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::harness::{Job, broker, info, job, output_of};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, Task)]
#[task(event = "json", codec = Json, output = Vec<String>, crate = asynqueue_core)]
struct InJson {
    name: String,
}

/// JSON backwards: unlike all that is built in.
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
async fn a_payload_in_json_and_its_output_make_the_round_trip() {
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
async fn a_codec_of_the_users_own_makes_the_round_trip() {
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
async fn headers_arrive_at_the_process() {
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
